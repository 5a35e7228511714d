"""The table of the page that is run from top to bottom and timed."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_table


def tabulate_first_hour(results: dict[str, Any]) -> str:
    """Return a row for each step, with its seconds and those that processors spent on it, and where it was measured."""
    heads, keys = ["step", "seconds", "seconds of one core"], ("seconds", "core_seconds")
    rows = [[row["step"], *(f"{row[key]:.0f}" for key in keys)] for row in results["rows"]]
    total = ["all", *(f"{sum(row[key] for row in results['rows']):.0f}" for key in keys)]
    measured = f"{results['cores']} cores of {results['machine']['kind'].split(', ')[0]}"
    return f"{write_table(heads, [*rows, total])}\n\nMeasured by {write_command(results)} on {measured}."
