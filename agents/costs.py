"""Processor time by stage, kept in a file so that it adds up over runs and processes."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class CostLog:
    """A file with a line for each finished stage; processes may write to it at the same time.

    A stage that is killed leaves no line, so the work that is lost with it is not counted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def measure(self, stage: str, **about: Any) -> Iterator[None]:
        """Log the processor and wall seconds of a ``with`` block, those of its finished child processes included."""
        began, clock = _count_seconds(), time.monotonic()
        yield
        spent = {"cpu_seconds": round(_count_seconds() - began, 2), "seconds": round(time.monotonic() - clock, 2)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"stage": stage, **about, **spent}) + "\n")  # one short write: lines do not mix

    def sum_stages(self) -> dict[str, float]:
        """Return the processor seconds of each stage, in the order in which they were first finished."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        sums: dict[str, float] = {}
        for line in map(json.loads, lines):
            sums[line["stage"]] = round(sums.get(line["stage"], 0) + line["cpu_seconds"], 2)
        return sums


def describe_costs(cpu_seconds: dict[str, float]) -> str:
    """Return a sentence with the core-hours in all and by stage."""
    stages = ", ".join(f"{stage} {seconds / 3600:.2f}" for stage, seconds in cpu_seconds.items())
    return f"{sum(cpu_seconds.values()) / 3600:.2f} core-hours in all ({stages})"


def _count_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
