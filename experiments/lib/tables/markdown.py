"""Markdown tables, and the parts of captions that several tables share."""

import re
from typing import Any

_MOVED = {
    r"experiments\.(table[23]|figure[0-9])": r"experiments.paper.\1",
    r"experiments\.ablation_": "experiments.ablations.",
    r"experiments\.(table_play|figure_actions)": r"experiments.release.\1",
}
"""Patterns of earlier module paths in recorded commands -> the modules' paths today."""


def write_table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with a head for each column."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def write_interval(row: dict[str, Any], key: str = "delta_psnr", digits: int = 2, scale: float = 1) -> str:
    """Return the value ``key`` of a row and its 95 % ``interval``, both times ``scale`` (100 for percent of shares)."""
    value, low, high = (f"{scale * each:.{digits}f}" for each in (row[key], *row["interval"]))
    return f"{value} [{low}, {high}]"


def write_values(values: list[float]) -> str:
    """Return the mean of values, with the lowest and the highest one in brackets if they differ."""
    spread = f" ({min(values):.4g} to {max(values):.4g})" if min(values) < max(values) else ""
    return f"{sum(values) / len(values):.4g}{spread}"


def write_command(results: dict[str, Any]) -> str:
    """Return the command that made a file of results, with today's module paths."""
    command: str = results["command"]
    for earlier, path in _MOVED.items():
        command = re.sub(earlier, path, command)
    return f"`{command}`"


def describe_run(results: dict[str, Any]) -> str:
    """Return the command, commit, machine and total time of results, in brackets."""
    minutes = sum(row.get("minutes", 0) for row in results["rows"])
    spent = f", {minutes:.0f} minutes in all" if minutes else ""
    return f"({write_command(results)}, commit `{results['commit']}`, {results['machine']['cpu']}{spent})"


def count_seeds(results: dict[str, Any]) -> str:
    """Return the number of seeds with rows, and the number planned if it differs."""
    done = len({row["seed"] for row in results["rows"]})
    return f"{done} seeds" if done == results["seeds"] else f"{done} of {results['seeds']} seeds so far"
