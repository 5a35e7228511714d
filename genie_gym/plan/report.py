"""A plan in a terminal, and as an entry of a JSON file."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from genie_gym.plan.estimate import PhasePlan, Plan
from genie_gym.plan.memory import RankState
from genie_gym.results.files import current_command, current_commit, read_results, write_results

_GB = 1e9


def print_plan(console: Console, name: str, plan: Plan) -> None:
    """Print a plan: a table for each phase, what to choose, and the memory of play."""
    machine = plan.machine
    models = (f"{model.replace('_', ' ')} {count / 1e6:,.1f} M" for model, count in plan.parameters.items())
    console.print(f"{name}: weights of the {', '.join(models)}")
    usable = f"{machine.usable_bytes / _GB:.0f} of {machine.gpu_memory:.0f} GB to fill"
    rate = f"{machine.gpu_tflops:.0f} TFLOP/s, of which {machine.mfu:.0%} are reached"
    console.print(f"{_count_gpus(machine.gpus)}, {usable}; {rate}")
    for phase in plan.phases:
        _print_phase(console, phase)
    caches = f"KV caches {_format(plan.cache_bytes / _GB)} GB for each row"
    console.print(f"\nplay: weights {_format(plan.play_bytes / _GB)} GB, {caches}")


def _print_phase(console: Console, phase: PhasePlan) -> None:
    batch = f"{phase.steps:,} steps of {phase.clips} clips, {_format(phase.tokens_a_step / 1e6)} M tokens"
    whole = f"{_format(phase.steps * phase.tokens_a_step / 1e9)} B tokens in all"
    console.print(f"\n[bold]{phase.name}[/bold]: {_format(phase.parameters / 1e6)} M weights; {batch}; {whole}")
    ways = phase.ways
    table = Table("GB of a GPU", *(way.sharding + ", blocks again" * way.checkpoint_blocks for way in ways))
    for part in (each.name for each in fields(RankState)):
        table.add_row(part, *(_format(getattr(way.state, part) / _GB) for way in ways))
    table.add_row("activations", *(_format(way.activations / _GB) for way in ways), end_section=True)
    table.add_row("all", *(_format(way.total / _GB) + " too much" * (not way.fits) for way in ways), style="bold")
    table.add_row("clips at once", *(str(way.clips) for way in ways))
    table.add_row("accumulate", *(str(way.accumulate) for way in ways))
    console.print(table)
    work = f"{_format(phase.operations_a_step / 1e12)} TFLOP a step"
    console.print(f"{work}: {_format(phase.days)} days on {_count_gpus(phase.gpus)}")
    if phase.chosen.fits:
        console.print(f"fits with {phase.options}")
    for hint in phase.hints:
        console.print(hint)


def _count_gpus(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus:,} GPUs"


def _format(value: float) -> str:
    """Return a number with three digits, and all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write_plan(path: Path, name: str, plan: Plan) -> None:
    """Write a plan as the entry of a preset, and keep the entries of others.

    Raises:
        ValueError: If the file holds other results, or cannot be written.
    """
    entry = {"command": current_command(), "commit": current_commit(), **plan.to_dict()}
    write_results(path, {"presets": {**read_plans(path), name: entry}})


def read_plans(path: Path) -> dict[str, Any]:
    """Return the entries of a file of plans by preset; none if there is no file.

    Raises:
        ValueError: If the file holds other results.
    """
    entries = read_results(path).get("presets") if path.exists() else {}
    if not isinstance(entries, dict):
        raise ValueError(f"{str(path)!r} must hold plans of presets, got other results; move it away")
    return entries
