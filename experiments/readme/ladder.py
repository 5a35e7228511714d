"""The ladder, rung by rung."""

from typing import Any

from experiments.readme.markdown import tell_how, write_table, write_values
from experiments.release.rungs import RUNGS, Part

COLUMNS: dict[Part, dict[str, str]] = {
    "tokenizer": {
        "psnr": "PSNR, dB",
        "kmeans_psnr": "k-means",
        "moving_psnr": "of moving pixels",
        "codes_used": "codes used",
    },
    "actions": {
        "direction_kept": "left / still / right, kept",
        "up_kept": "up / none, kept",
        "effective_kept": "nine moves, kept",
        "nmi": "NMI",
        "perplexity": "perplexity",
    },
    "dynamics": {
        "delta_psnr": "delta PSNR, t = 4",
        "fvd_procgen": "fvd_procgen",
    },
}
"""By part what a rung's answers are told by, with heads."""


def tabulate_ladder(results: dict[str, Any]) -> str:
    """A table for each rung that has been climbed: each answer's mean over seeds, and its lowest and highest."""
    tables = [f"Climbed so far {tell_how(results)}. Means over seeds (lowest to highest):"]
    for name in dict.fromkeys(row["rung"] for row in results["rows"]):
        columns = COLUMNS[RUNGS[name].part]
        rows = []
        for variant in RUNGS[name].variants:
            own = [row for row in results["rows"] if (row["rung"], row["variant"]) == (name, variant)]
            if own:
                cells = [write_values([row[column] for row in own]) for column in (*columns, "train_steps")]
                rows.append([variant, str(len(own)), *cells])
        tables.append(write_table([name, "seeds", *columns.values(), "steps"], rows))
    return "\n\n".join(tables)
