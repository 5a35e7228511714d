"""Tables of the experiments from the paper, and of ablations of what is trained."""

from typing import Any

from experiments.lib.tables.markdown import describe_run, write_table, write_values

_HEADS = {
    "rebuilt_psnr": "rebuilt, dB",
    "mean_shift": "mean shift, pixels",
    "x_explained": "motion along x explained",
    "y_explained": "along y",
    "fvd_procgen_rebuilt": "fvd_procgen, rebuilt",
    "delta_psnr": "delta PSNR, t = 4",
    "tokenizer_psnr": "PSNR, dB",
    "activations_mb": "activations of a step, MB",
    "held_out_loss": "loss, nats",
    "shuffled_loss": "loss under another clip's latent actions",
    "perplexity": "perplexity of labels",
    "nmi": "NMI with the nine moves",
    "direction": "left / still / right",
    "up": "up / none",
    "train_steps": "steps",
}
"""Column heads by JSON key; other keys are their own head."""
VARIANTS = {
    "table2_lam_input": "inputs fvd_procgen delta_psnr perplexity nmi direction up train_steps",
    "table3_tokenizer": "kind fvd_procgen fvd_procgen_rebuilt delta_psnr tokenizer_psnr activations_mb train_steps",
    "ablation_actions": "kind fvd_procgen delta_psnr held_out_loss shuffled_loss train_steps",
}
"""JSON keys of the columns by file of results, which has a row for each seed; the first key names the variant."""
ROW_TABLES = {
    "figure10_prompts": "kind pictures rebuilt_psnr mean_shift x_explained y_explained",
}
"""JSON keys of the columns by file of results; each of its rows is a row of the table."""


def tabulate_variants(name: str, results: dict[str, Any]) -> str:
    """Return a table of each variant's mean over seeds, with lowest and highest value; ``name`` is in ``VARIANTS``."""
    key, *columns = VARIANTS[name].split()
    rows = []
    for variant in dict.fromkeys(row[key] for row in results["rows"]):
        own = [row for row in results["rows"] if row[key] == variant]
        rows.append([variant, str(len(own)), *(write_values([row[column] for row in own]) for column in columns)])
    table = write_table([key, "seeds", *(_HEADS.get(column, column) for column in columns)], rows)
    return f"Mean over seeds (lowest to highest) {describe_run(results)}:\n\n{table}"


def tabulate_rows(name: str, results: dict[str, Any]) -> str:
    """Return a table with a row for each row of the results; ``name`` is in ``ROW_TABLES``."""
    columns = ROW_TABLES[name].split()
    rows = [[f"{v:.3f}" if isinstance(v := row[key], float) else str(v) for key in columns] for row in results["rows"]]
    return f"{describe_run(results)}:\n\n{write_table([_HEADS.get(key, key) for key in columns], rows)}"


def tabulate_precisions(results: dict[str, Any]) -> str:
    """Return a table of losses and processor time in float32 and in bfloat16, with a row for each kind of model."""
    pairs = {"loss": "of the last fifth", "held_out": "held-out", "cpu_ms": "CPU ms a step"}
    heads = ["model", "seeds", *(f"{words}, {each}" for words in pairs.values() for each in ("float32", "bfloat16"))]
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in results["rows"]):
        own = [row for row in results["rows"] if row["kind"] == kind]
        split = [[row for row in own if row["precision"] == each] for each in ("float32", "bfloat16")]
        cells = (write_values([row[key] for row in part]) for key in pairs for part in split)
        rows.append([kind, str(len(split[0])), *cells])
    return (
        f"{results['train_steps']} steps each, {results['clone_steps']} of the clone; mean loss over seeds (lowest to "
        f"highest) {describe_run(results)}:\n\n{write_table(heads, rows)}"
    )


def tabulate_scaling(results: dict[str, Any]) -> str:
    """Return figure 9 as a table, with the power law fitted to its frontier."""
    heads = ["layers x width", "parameters", "batch", "training compute, TFLOP", "loss on validation levels, nats"]
    rows = []
    for row in results["rows"]:
        compute = f"{row['curve'][-1]['tflop']:.1f}"
        parameters = f"{row['parameters'] / 1e6:.2f}M"
        rows.append([row["stack"], parameters, str(row["batch_size"]), compute, f"{row['loss']:.3f}"])
    fit = results["fit"]
    return (
        f"{results['train_steps']:,} steps each {describe_run(results)}. Along the frontier loss = {fit['a']:.2f} "
        f"C^-{fit['b']:.4f} with C in TFLOP (r2 {fit['r2']:.3f}).\n\n{write_table(heads, rows)}"
    )
