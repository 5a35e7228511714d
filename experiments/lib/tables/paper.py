"""Tables of the experiments from the paper, and of ablations of what is trained."""

from typing import Any

from experiments.lib.tables.markdown import describe_run, write_interval, write_table, write_values

_HEADS = {
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


def tabulate_variants(name: str, results: dict[str, Any]) -> str:
    """Return a table of each variant's mean over seeds, with lowest and highest value; ``name`` is in ``VARIANTS``."""
    key, *columns = VARIANTS[name].split()
    rows = []
    for variant in dict.fromkeys(row[key] for row in results["rows"]):
        own = [row for row in results["rows"] if row[key] == variant]
        rows.append([variant, str(len(own)), *(write_values([row[column] for row in own]) for column in columns)])
    table = write_table([key, "seeds", *(_HEADS.get(column, column) for column in columns)], rows)
    return f"Mean over seeds (lowest to highest) {describe_run(results)}:\n\n{table}"


def tabulate_prompts(results: dict[str, Any]) -> str:
    """Return figure 10 as two tables with a row for each kind of prompt: what is kept of it, and whether it obeys."""
    kept, obeyed = [], []
    for row in results["rows"]:
        pairs = (f"{each['psnr']:.1f} ({each['other_psnr']:.1f})" for each in row["kept"])
        tokens = (f"{each['tokens']:.2f}" for each in row["kept"])
        chance = f"{row['kept'][0]['other_tokens']:.2f}"
        kept.append([row["kind"], str(row["pictures"]), f"{row['rebuilt_psnr']:.1f}", *pairs, *tokens, chance])
        explained = (_write_share(row[f"{axis}_explained"]) for axis in "xy")
        ways = row["obedience"].values()
        obeyed.append([row["kind"], *explained, *(f"{_write_share(way)} ({way['chance']:.2f})" for way in ways)])
    frames = [each["frame"] for each in results["rows"][0]["kept"]]
    measures = ("kept, dB (another prompt)", "tokens kept")
    heads = ["kind", "pictures", "rebuilt, dB", *(f"{each}, t = {frame}" for each in measures for frame in frames)]
    obedience = ["left of right (chance)", "left to the left (chance)", "right to the right (chance)"]
    motion = ["kind", "motion along x explained [95 %]", "along y [95 %]", *obedience]
    tables = (write_table([*heads, "tokens of another prompt"], kept), write_table(motion, obeyed))
    return f"{describe_run(results)}:\n\n" + "\n\n".join(tables)


def _write_share(scored: dict[str, Any]) -> str:
    """Return a share with its interval, without it if there is none."""
    return f"{scored['share']:.2f}" if scored["interval"] is None else write_interval(scored, "share")


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
