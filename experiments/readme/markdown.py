"""What the sections share."""

from typing import Any


def write_table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def write_interval(row: dict[str, Any]) -> str:
    """Delta PSNR with its 95 % interval."""
    low, high = row["interval"]
    return f"{row['delta_psnr']:.2f} [{low:.2f}, {high:.2f}]"


def write_values(values: list[float]) -> str:
    """Their mean, and the lowest and highest where they differ."""
    spread = f" ({min(values):.4g} to {max(values):.4g})" if min(values) < max(values) else ""
    return f"{sum(values) / len(values):.4g}{spread}"


def tell_how(results: dict[str, Any]) -> str:
    """Command, commit, machine and time."""
    minutes = sum(row.get("minutes", 0) for row in results["rows"])
    spent = f", {minutes:.0f} minutes in all" if minutes else ""
    return f"(`{results['command']}`, commit `{results['commit']}`, {results['machine']['cpu']}{spent})"


def write_solved(solved: dict[str, Any] | None) -> str:
    """Percent of levels solved, interval and interquartile mean, of ``tell_solved``; a dash where nobody played.

    Of one seed no interval can be told.
    """
    if solved is None:
        return "-"
    if len(solved["by_seed"]) == 1:
        return f"{100 * solved['solved']:.1f} (one seed)"
    low, high = solved["interval"]
    return f"{100 * solved['solved']:.1f} [{100 * low:.1f}, {100 * high:.1f}] ({100 * solved['iqm']:.1f})"


def count_seeds(results: dict[str, Any]) -> str:
    """How many seeds there are rows of, and how many there will be."""
    done = len({row["seed"] for row in results["rows"]})
    return f"{done} seeds" if done == results["seeds"] else f"{done} of {results['seeds']} seeds so far"
