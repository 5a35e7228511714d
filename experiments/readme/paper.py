"""The paper's tables and figures, and our own questions, at our size."""

from typing import Any

from experiments.readme.markdown import tell_how, write_table, write_values

RIVALS = {
    "table2_lam_input": (
        "The paper's table 2 at our size",
        "inputs",
        {
            "fvd_procgen": "fvd_procgen",
            "delta_psnr": "delta PSNR, t = 4",
            "perplexity": "perplexity of labels",
            "nmi": "NMI with the nine moves",
            "direction": "left / still / right",
            "up": "up / none",
            "train_steps": "steps",
        },
    ),
    "table3_tokenizer": (
        "The paper's table 3 at our size",
        "kind",
        {
            "fvd_procgen": "fvd_procgen, played",
            "fvd_procgen_rebuilt": "fvd_procgen, rebuilt",
            "delta_psnr": "delta PSNR, t = 4",
            "tokenizer_psnr": "PSNR, dB",
            "activations_mb": "activations of a step, MB",
            "train_steps": "steps",
        },
    ),
    "ablation_actions": (
        "How latent actions enter the dynamics",
        "kind",
        {
            "fvd_procgen": "fvd_procgen",
            "delta_psnr": "delta PSNR, t = 4",
            "held_out_loss": "loss, nats",
            "shuffled_loss": "loss under another clip's latent actions",
            "train_steps": "steps",
        },
    ),
}
"""By file of results: what it is, what tells rivals apart, and the columns with their heads."""


def tabulate_rivals(name: str, results: dict[str, Any]) -> str:
    """A row for each rival: each column's mean over seeds, and its lowest and highest; ``name`` in ``RIVALS``."""
    about, key, columns = RIVALS[name]
    rows = []
    for rival in dict.fromkeys(row[key] for row in results["rows"]):
        own = [row for row in results["rows"] if row[key] == rival]
        rows.append([rival, str(len(own)), *(write_values([row[column] for row in own]) for column in columns)])
    table = write_table([key, "seeds", *columns.values()], rows)
    return f"{about} {tell_how(results)}, mean (lowest to highest):\n\n{table}"


def tabulate_scaling(results: dict[str, Any]) -> str:
    """Figure 9."""
    heads = ["layers x width", "parameters", "batch", "training compute, TFLOP", "loss on validation levels, nats"]
    rows = [
        [
            row["stack"],
            f"{row['parameters'] / 1e6:.2f}M",
            str(row["batch_size"]),
            f"{row['curve'][-1]['tflop']:.1f}",
            f"{row['loss']:.3f}",
        ]
        for row in results["rows"]
    ]
    fit = results["fit"]
    return (
        f"The paper's figure 9 at our size {tell_how(results)}: {results['train_steps']:,} steps each. Along the "
        f"frontier loss = {fit['a']:.2f} C^-{fit['b']:.4f} with C in TFLOP (r2 {fit['r2']:.3f}).\n\n"
        f"{write_table(heads, rows)}"
    )


def tabulate_prompts(results: dict[str, Any]) -> str:
    """Figure 10."""
    heads = [
        "opened on",
        "pictures",
        "rebuilt, dB",
        "mean shift, pixels",
        "motion explained",
        "starts that move alike",
        "chance",
    ]
    rows = [
        [
            row["kind"],
            str(row["pictures"]),
            f"{row['rebuilt_psnr']:.2f}",
            f"{row['mean_shift']:.2f}",
            f"{row['explained']:.3f}",
            f"{row['agreement']:.3f}",
            f"{row['chance']:.3f}",
        ]
        for row in results["rows"]
    ]
    return (
        f"Pictures unlike any training frame {tell_how(results)}: every latent action held for {results['held']} "
        f"frames.\n\n{write_table(heads, rows)}"
    )


def tabulate_consistency(results: dict[str, Any]) -> str:
    """Figure 17."""
    scores = {
        "explained": "motion explained",
        "explained_shuffled": "shuffled",
        "explained_real": "by the game's own moves",
        "agreement": "starts that move alike",
        "chance": "chance",
    }
    scores = {name: words for name, words in scores.items() if name in results["rows"][0]}
    heads = ["mode", "frames held", "starts", *scores.values()]
    rows = [
        [
            row["mode"],
            str(row["held"]),
            str(row["starts"]),
            *(f"{row[name]:.3f}" for name in scores),
        ]
        for row in results["rows"]
    ]
    about = f"One latent action from many starts, as the paper's figure 17 {tell_how(results)}:"
    return f"{about}\n\n{write_table(heads, rows)}"
