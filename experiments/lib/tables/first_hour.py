"""The table of the page that is run from top to bottom and timed."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_table


def tabulate_first_hour(results: dict[str, Any]) -> str:
    """Return a row for each step, with its minutes and those that processors spent on it, and where it was measured."""
    heads = ["step", "minutes", "minutes of one core"]
    rows = [[row["step"], *(f"{row[key]:.1f}" for key in ("minutes", "core_minutes"))] for row in results["rows"]]
    total = ["all", *(f"{sum(row[key] for row in results['rows']):.0f}" for key in ("minutes", "core_minutes"))]
    kind, load = results["machine"]["kind"], results["load"]
    measured = f"{results['cores']} cores of {kind.split(', ')[0]}, load {load:.0f}"
    return f"{write_table(heads, [*rows, total])}\n\nMeasured by {write_command(results)} on {measured}."
