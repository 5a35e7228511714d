"""Experiments that resume: rows, seeds, and where the files go."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_gym.results.experiment import TrainedExperiment, VariantExperiment


class Sums(TrainedExperiment):
    """A toy experiment with one row for each number."""

    name = "sums"


def test_finished_rows_are_kept_and_the_missing_ones_computed(tmp_path: Path) -> None:
    asked: list[int] = []

    def work(cell: dict[str, Any]) -> dict[str, Any]:
        asked.append(cell["number"])
        if cell["number"] == 2 and asked.count(2) == 1:
            raise KeyboardInterrupt
        return {"square": cell["number"] ** 2}

    experiment = Sums(out=tmp_path)
    cells = [{"number": number} for number in range(4)]
    with pytest.raises(KeyboardInterrupt):
        experiment.finish_rows(cells, {"size": 1}, work)
    assert [row["square"] for row in json.loads(experiment.json.read_text())["rows"]] == [0, 1]
    rows = experiment.finish_rows(cells, {"size": 1}, work)
    assert [row["square"] for row in rows] == [0, 1, 4, 9]
    assert asked == [0, 1, 2, 2, 3]
    assert [row["square"] for row in experiment.finish_rows(cells[2:], {"size": 1}, work)] == [4, 9, 0, 1]
    for other, settings in ((experiment, {"size": 2}), (Sums(out=tmp_path, seed=1), {"size": 1})):
        with pytest.raises(ValueError, match="other settings"):
            other.finish_rows(cells, settings, work)


def test_rows_that_another_run_writes_meanwhile_are_kept(tmp_path: Path) -> None:
    experiment = Sums(out=tmp_path)

    def work(cell: dict[str, Any]) -> dict[str, Any]:
        if cell["number"] == 1:
            experiment.finish_rows([{"number": 5}], {}, work)
        return {"square": cell["number"] ** 2}

    rows = experiment.finish_rows([{"number": 1}, {"number": 2}], {}, work)
    assert [row["square"] for row in rows] == [1, 4, 25]
    assert {row["square"] for row in json.loads(experiment.json.read_text())["rows"]} == {1, 4, 25}


class SlowSums(Sums):
    """Its rows are written slowly, so that others come between the reading of rows and their writing."""

    def write(self, results: dict[str, Any]) -> None:
        time.sleep(0.05)
        super().write(results)


def test_rows_of_two_runs_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    def run(numbers: range) -> list[dict[str, Any]]:
        cells = [{"number": number} for number in numbers]
        return SlowSums(out=tmp_path).finish_rows(cells, {}, lambda cell: {"square": cell["number"] ** 2})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (range(4), range(4, 8))))
    rows = json.loads(Sums(out=tmp_path).json.read_text())["rows"]
    assert sorted(row["square"] for row in rows) == [number**2 for number in range(8)]


def square_apart(cell: dict[str, Any]) -> dict[str, Any]:
    if cell["number"] < 0:
        raise ValueError(f"number must be 0 or more, got {cell['number']}")
    return {"square": cell["number"] ** 2, "process": os.getpid(), "threads": torch.get_num_threads()}


def test_rows_of_several_processes_are_written_one_by_one(tmp_path: Path) -> None:
    experiment, cells = Sums(out=tmp_path), [{"number": number} for number in range(3)]
    rows = experiment.finish_rows(cells, {}, square_apart, processes=2)
    assert [row["square"] for row in rows] == [0, 1, 4]
    assert os.getpid() not in {row["process"] for row in rows}
    assert all(row["threads"] == max(1, torch.get_num_threads() // 2) for row in rows)
    with pytest.raises(ValueError, match="number must be 0 or more, got -1"):
        experiment.finish_rows([*cells, {"number": -1}], {}, square_apart, processes=2)
    assert experiment.finish_rows(cells, {}, square_apart, processes=2) == rows


def test_all_cells_of_the_first_seed_come_first() -> None:
    class Pairs(VariantExperiment):
        pass

    kinds = [{"kind": "a"}, {"kind": "b"}]
    cells = Pairs(seed=5).repeat_over_seeds(kinds, 2)
    assert [(cell["kind"], cell["seed"]) for cell in cells] == [("a", 5), ("b", 5), ("a", 6), ("b", 6)]
    assert Pairs(seed=5, seeds=1).repeat_over_seeds(kinds, 2) == cells[:2]
    with pytest.raises(ValueError, match="seeds"):
        Pairs(seeds=0).repeat_over_seeds(kinds, 2)


def test_smoke_and_full_write_different_files(tmp_path: Path) -> None:
    smoke, full = Sums(out=tmp_path), Sums(out=tmp_path, preset="full")
    assert smoke.json != full.json
    assert smoke.picture != full.picture
    assert smoke.run_folder != full.run_folder
