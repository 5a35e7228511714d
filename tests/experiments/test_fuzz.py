"""Damaged files of every kind that strangers hand in, 2,000 of them, and that the fuzzer sees what it looks for."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.trust.bounded import Bounds, run_bounded
from experiments.trust.damage import damage_bytes, damage_values, list_fields
from experiments.trust.fuzz import Fuzzer, list_numbers, summarise, tabulate_fuzz
from experiments.trust.targets import TARGETS

CASES = 2_000
SMALL = Bounds(seconds=1.0, megabytes=200, hang=20)


def test_damaged_files_are_refused_or_used_within_bounds() -> None:
    with Fuzzer(seed=43) as fuzzer:
        outcomes = list(fuzzer.run(range(CASES)))
    assert [each.number for each in outcomes] == list(range(CASES))
    for name in TARGETS:
        own = [each for each in outcomes if each.number in list_numbers(name, 0, CASES // len(TARGETS))]
        found = summarise(own, fuzzer.bounds)
        assert found["faults"] == []
        assert found["cases"] == CASES // len(TARGETS), name
        assert min(found["endings"].get(ending, 0) for ending in ("ValueError", "success")) > 0.02 * len(own), name


def test_the_docs_show_the_results_of_the_long_run() -> None:
    root = Path(__file__).parents[2]
    results = json.loads((root / "experiments" / "results" / "fuzz.json").read_text())
    assert tabulate_fuzz(results["rows"]) in (root / "docs" / "trust.md").read_text()


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_used(name: str) -> None:
    with Fuzzer() as fuzzer:
        TARGETS[name].use(fuzzer.copy_sound(name))


def test_sound_files_are_made_alike(tmp_path: Path) -> None:
    """A case damages the same bytes whenever it is run."""
    made: list[dict[str, bytes]] = []
    for _ in range(2):
        with Fuzzer() as fuzzer:
            places = [(name, fuzzer.copy_sound(name)) for name in ("shard",)]
            made += [{str(f.relative_to(p)): f.read_bytes() for f in p.rglob("*") if f.is_file()} for _, p in places]
    assert made[0] == made[1]


def loop() -> None:
    while True:
        pass


def allocate() -> None:
    np.ones(600 << 17).sum()  # eight bytes each


def allocate_all() -> None:
    np.ones(1 << 34)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    {}["a"]  # type: ignore[index]


@pytest.mark.timeout(300)  # should the worker not be killed
@pytest.mark.parametrize(
    ("break_bound", "ending"),
    [
        (loop, "killed by SIGPROF"),
        (lambda: time.sleep(100), "killed by SIGALRM"),
        (crash, "killed by SIGKILL"),
        (allocate_all, "MemoryError"),
        (allocate, "success"),
        (fail, "KeyError"),
    ],
)
def test_a_case_that_breaks_a_bound_is_told_and_the_others_run(break_bound: Callable[[], None], ending: str) -> None:
    def run(number: int) -> None:
        if number == 2:
            break_bound()
        if number == 4:
            raise FileNotFoundError("a")

    bounds = SMALL._replace(hang=2) if ending.endswith("SIGALRM") else SMALL
    outcomes = list(run_bounded(run, range(6), bounds))
    assert [each.number for each in outcomes] == list(range(6))
    assert [each.number for each in outcomes if not each.is_allowed(bounds)] == [2]
    assert outcomes[2].ending == ending
    assert outcomes[4].ending == "OSError"


def test_a_seed_damages_alike() -> None:
    values = {"a": [1, {"b": 2.0}], "c": "d"}
    assert list(list_fields(values)) == [("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)]
    for seed in range(50):
        twice = [damage_bytes(np.random.default_rng(seed), bytes(range(100))) for _ in range(2)]
        assert twice[0] == twice[1]
        assert repr(damage_values(np.random.default_rng(seed), values)) == repr(
            damage_values(np.random.default_rng(seed), values)
        )
    assert values == {"a": [1, {"b": 2.0}], "c": "d"}
