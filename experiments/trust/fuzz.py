"""Damaged files of every kind that strangers hand in: each is refused with an error or used, within bounds.

    python -m experiments.trust.fuzz --preset full

runs 50,000 cases and writes ``results/fuzz.json`` after each 500 of a kind: call it again to resume, also after
deleting the rows of a kind whose code has changed.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import tyro

from experiments.trust.bounded import Bounds, CaseOutcome, run_bounded
from experiments.trust.targets import TARGETS
from genie_gym.checks import require
from genie_gym.results.experiment import Row, TrainedExperiment

_CASES = {"smoke": 2_500, "full": 50_000}
_BLOCK = 500
"""Number of cases of a row of results, all of one kind."""


@dataclass
class Fuzzer:
    """The cases of a seed: case n damages a file of kind n modulo the number of kinds, always in the same way.

    Use it as a context: it holds the sound files.
    """

    seed: int = 0
    """seed of all damages"""
    bounds: Bounds = field(default_factory=Bounds)
    """what a case may take"""

    def __enter__(self) -> "Fuzzer":
        torch.set_num_threads(1)  # a forked worker has no other threads
        self._folder = Path(tempfile.mkdtemp(prefix="genie-gym-fuzz-"))
        for name, target in TARGETS.items():
            place = self._folder / "sound" / name
            place.mkdir(parents=True)
            target.prepare(place)
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, numbers: Sequence[int]) -> Iterator[CaseOutcome]:
        """Run cases by number, and yield how each ended."""
        return run_bounded(self.run_case, numbers, self.bounds)

    def run_case(self, number: int) -> None:
        """Run a case in this process; ``damage_case`` leaves its files."""
        name = self.name_target(number)
        place = self.damage_case(number)
        try:
            TARGETS[name].use(place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def damage_case(self, number: int) -> Path:
        """Return a folder with the damaged files of a case; ``RuntimeError`` if they cannot be made."""
        name = self.name_target(number)
        place = self.copy_sound(name)
        try:
            TARGETS[name].damage(np.random.default_rng([self.seed, number]), place)
        except Exception as error:
            raise RuntimeError(f"case {number} cannot be damaged") from error
        return place

    def copy_sound(self, name: str) -> Path:
        """Return a folder with the sound files of a kind, which replaces the last such folder of this process."""
        place = self._folder / f"case-{os.getpid()}"
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self._folder / "sound" / name, place)

    @staticmethod
    def name_target(number: int) -> str:
        """Return the kind of a case's file."""
        return list(TARGETS)[number % len(TARGETS)]


def list_numbers(kind: str, first: int, count: int) -> range:
    """Return the numbers of ``count`` cases of a kind, from ``first`` on."""
    return range(first + list(TARGETS).index(kind), first + count * len(TARGETS), len(TARGETS))


def summarise(outcomes: Sequence[CaseOutcome], bounds: Bounds) -> dict[str, Any]:
    """Return how many cases ended how, the largest processor time and memory, and all faults."""
    return {
        "cases": len(outcomes),
        "endings": dict(sorted(Counter(each.ending for each in outcomes).items())),
        "most_seconds": max(each.seconds for each in outcomes),
        "most_megabytes": max(each.megabytes for each in outcomes),
        "faults": [each._asdict() for each in outcomes if not each.is_allowed(bounds)],
    }


def tabulate_fuzz(rows: Sequence[Row]) -> str:
    """Return the table of results that the docs show, in Markdown."""
    lines = ["| file | cases | refused | used | most processor time, s |", "| --- | --- | --- | --- | --- |"]
    for name in [name for name in TARGETS if any(row["kind"] == name for row in rows)]:
        own = [row for row in rows if row["kind"] == name]
        endings: Counter[str] = sum((Counter(row["endings"]) for row in own), Counter())
        refused, used = endings["ValueError"] + endings["OSError"], endings["success"]
        most = max(row["most_seconds"] for row in own)
        lines.append(f"| {name} | {sum(row['cases'] for row in own):,} | {refused:,} | {used:,} | {most:.1f} |")
    faults, memory = sum(len(row["faults"]) for row in rows), max(row["most_megabytes"] for row in rows)
    return "\n".join(
        [*lines, "", f"Other endings: {faults}. Most memory of a worker: {memory} MB more than at its start."]
    )


@dataclass(frozen=True, kw_only=True)
class Fuzz(TrainedExperiment):
    """Damaged configs, weights, shards, videos and prompts: how each ends, in which time and memory."""

    name: ClassVar[str] = "fuzz"
    cases: int | None = None
    """number of cases, the preset's by default"""
    kinds: tuple[str, ...] = tuple(TARGETS)
    """kinds of files whose cases to run now; a later run adds the others"""

    def run(self) -> None:
        """Run the blocks of cases that the results lack."""
        require(set(self.kinds) <= set(TARGETS), "kinds", self.kinds, f"some of {', '.join(TARGETS)}")
        cases = _CASES[self.preset] if self.cases is None else self.cases
        firsts = range(0, cases, _BLOCK * len(TARGETS))
        cells: list[Row] = [{"kind": kind, "first": first} for kind in self.kinds for first in firsts]
        with Fuzzer(self.seed) as fuzzer:

            def work(cell: Row) -> Row:
                return summarise(list(fuzzer.run(list_numbers(**cell, count=_BLOCK))), fuzzer.bounds)

            settings = {"bounds": fuzzer.bounds._asdict(), "block": _BLOCK, "targets": list(TARGETS)}
            rows = self.finish_rows(cells, settings, work)
        for row in rows:
            for fault in row["faults"]:
                print(fault)
        print(tabulate_fuzz(rows))


if __name__ == "__main__":
    tyro.cli(Fuzz).run()
