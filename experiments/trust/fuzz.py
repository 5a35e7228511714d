"""Damaged files of every kind that strangers hand in: each is refused with an error or used, within bounds.

    python -m experiments.trust.fuzz --preset full

runs 50,000 cases and writes ``results/fuzz.json`` after each block of them: call it again to resume.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import tyro

from experiments.trust.bounded import Bounds, CaseOutcome, run_bounded
from experiments.trust.targets import TARGETS
from genie_gym.results.experiment import Row, TrainedExperiment

_CASES = {"smoke": 500, "full": 50_000}
_HDF5_MEGABYTES = 5000
"""HDF5 takes as much memory as a damaged text claims to be long, up to 4 GiB, before it looks for the text."""
_BLOCK = 500
"""Number of cases of a row of results."""


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
        return run_bounded(self.run_case, numbers, self.bound_case)

    def bound_case(self, number: int) -> Bounds:
        """Return what a case may take; a shard more memory, since HDF5 believes what a text says of its length."""
        return self.bounds._replace(megabytes=_HDF5_MEGABYTES) if self.name_target(number) == "shard" else self.bounds

    def run_case(self, number: int) -> None:
        """Run a case in this process; ``damage_case`` leaves its files."""
        name = self.name_target(number)
        place = self.damage_case(number)
        try:
            TARGETS[name].use(place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def damage_case(self, number: int) -> Path:
        """Return a folder with the damaged files of a case."""
        name = self.name_target(number)
        place = self.copy_sound(name)
        TARGETS[name].damage(np.random.default_rng([self.seed, number]), place)
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


def summarise(outcomes: Sequence[CaseOutcome], bounds: Callable[[int], Bounds]) -> dict[str, Any]:
    """Return by kind of file how many cases ended how, and the largest processor time and memory; and all faults."""
    kinds: dict[str, dict[str, Any]] = {}
    for name in TARGETS:
        own = [each for each in outcomes if Fuzzer.name_target(each.number) == name]
        kinds[name] = {
            "cases": len(own),
            "endings": dict(sorted(Counter(each.ending for each in own).items())),
            "most_seconds": max((each.seconds for each in own), default=0),
        }
    faults = [each._asdict() for each in outcomes if not each.is_allowed(bounds(each.number))]
    return {"kinds": kinds, "most_megabytes": max((each.megabytes for each in outcomes), default=0), "faults": faults}


def tabulate_fuzz(rows: Sequence[Row]) -> str:
    """Return the table of results that the docs show, in Markdown."""
    lines = ["| file | cases | refused | used | most processor time, s |", "| --- | --- | --- | --- | --- |"]
    for name in TARGETS:
        kinds = [row["kinds"][name] for row in rows]
        endings = sum((Counter(kind["endings"]) for kind in kinds), Counter())
        refused, used = endings["ValueError"] + endings["OSError"], endings["success"]
        most = max(kind["most_seconds"] for kind in kinds)
        lines.append(f"| {name} | {sum(kind['cases'] for kind in kinds):,} | {refused:,} | {used:,} | {most:.1f} |")
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

    def run(self) -> None:
        """Run the blocks of cases that the results lack."""
        cases = _CASES[self.preset] if self.cases is None else self.cases
        cells: list[Row] = [{"first": first} for first in range(0, cases, _BLOCK)]
        with Fuzzer(self.seed) as fuzzer:

            def work(cell: Row) -> Row:
                numbers = range(cell["first"], cell["first"] + _BLOCK)
                return summarise(list(fuzzer.run(numbers)), fuzzer.bound_case)

            settings = {"bounds": fuzzer.bounds._asdict(), "block": _BLOCK, "targets": list(TARGETS)}
            rows = self.finish_rows(cells, settings, work)
        for row in rows:
            for fault in row["faults"]:
                print(fault)
        print(tabulate_fuzz(rows))


if __name__ == "__main__":
    tyro.cli(Fuzz).run()
