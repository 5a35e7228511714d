"""The table of libraries that were tried with the environment."""

from typing import Any

from experiments.lib.tables.markdown import write_table


def tabulate_clients(results: dict[str, Any]) -> str:
    """Return a row for each library: what was run with which versions, and whether it passed."""
    heads = ["library", "version", "Gymnasium", "NumPy", "PyTorch", "Python", "result"]
    rows = [
        [
            name,
            *(row.get(label, "-") for label in ("library", "gymnasium", "numpy", "torch", "python")),
            "passed" if row["passed"] else "failed",
        ]
        for name, row in results["rows"].items()
    ]
    return write_table(heads, rows)
