"""The benchmark from recording to figure at the preset ``smoke``."""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import clone_store
from agents import experiment as agents_experiment
from agents.benchmark import BENCHMARK_SIZES, KEYS, Benchmark
from agents.evaluation import gather_seeds
from agents.methods import CLONING_METHODS
from experiments.lib.tables.agents import tabulate_cloning
from genie_gym.results import experiment as results_experiment

BLIND = ("random", "expert", "oracle", "labelled_only", "marginal")


def read_rows(command: Benchmark) -> list[dict[str, Any]]:
    return json.loads(command.json.read_text())["rows"]


def solved_by_cell(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, int | None], str]:
    return {(row["method"], row["labels"]): row["solved_by_level"] for row in rows}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """A finished run; its files are never changed."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = Benchmark(out=folder / "out", work=folder / "work")
    command.run()
    return command


@pytest.fixture
def copied(finished: Benchmark, tmp_path: Path) -> Benchmark:
    """The finished run in folders of its own, recordings and frames as hard links."""
    shutil.copytree(finished.out, tmp_path / "out")
    shutil.copytree(finished.work, tmp_path / "work", copy_function=os.link)
    return replace(finished, out=tmp_path / "out", work=tmp_path / "work")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The calls of ``play_levels`` by the benchmark."""
    calls, play = [], agents_experiment.play_levels
    monkeypatch.setattr(agents_experiment, "play_levels", lambda *given: calls.append(given) or play(*given))
    return calls


def drop_rows(command: Benchmark, method: str) -> None:
    """Remove a method's rows from the file of results."""
    results = json.loads(command.json.read_text())
    results["rows"] = [row for row in results["rows"] if row["method"] != method]
    command.json.write_text(json.dumps(results))


@pytest.mark.pipeline
def test_every_method_has_its_rows_and_the_figure_is_drawn(finished: Benchmark) -> None:
    rows = read_rows(finished)
    assert {row["method"] for row in rows} == set(CLONING_METHODS)
    assert len(rows) == len(finished.list_cells(BENCHMARK_SIZES["smoke"])) == 15
    for row in rows:
        assert {"mode", "method", "labels", "seed", "levels", "solved"} <= set(row)
        assert 0 <= row["solved"] <= 1
        assert row["solved"] == pytest.approx(np.mean([int(each) for each in row["solved_by_level"]]))
    assert finished.picture.exists()


@pytest.mark.pipeline
def test_results_become_a_table(finished: Benchmark) -> None:
    results = json.loads(finished.json.read_text())
    assert "1 seeds, " in tabulate_cloning(results)
    assert "1 of 5 seeds so far" in tabulate_cloning({**results, "seeds": 5})
    table = tabulate_cloning(results).splitlines()[2:]
    assert all("(one seed)" in line for line in table[2:])
    assert len(table) == 2 + len(results["rows"])
    assert sum("oracle" in line for line in table) == 1


@pytest.mark.pipeline
def test_an_interrupted_run_makes_its_missing_rows_alone(
    finished: Benchmark, copied: Benchmark, played: list[object]
) -> None:
    drop_rows(copied, "expert_seen_latents")
    copied.run()
    assert len(played) == 1
    assert solved_by_cell(read_rows(copied)) == solved_by_cell(read_rows(finished))


@pytest.mark.pipeline
def test_a_finished_policy_plays_without_the_videos_it_was_cloned_from(
    finished: Benchmark, copied: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_rows(copied, "oracle")
    monkeypatch.setattr(clone_store, "read_footage", None)
    copied.run()
    assert solved_by_cell(read_rows(copied)) == solved_by_cell(read_rows(finished))


@pytest.mark.pipeline
def test_frames_of_another_process_are_cloned_from_without_reading_them(
    finished: Benchmark, copied: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(next(copied.work.rglob("easy-*/oracle-0")))
    drop_rows(copied, "oracle")
    footages = {"easy": copied.open("easy").footage}
    monkeypatch.setattr(clone_store, "read_footage", None)
    copied.make_shared(footages, {"mode": "easy", "need": "oracle", "seed": 0})
    copied.run()
    assert solved_by_cell(read_rows(copied)) == solved_by_cell(read_rows(finished))


@pytest.mark.pipeline
def test_some_methods_come_first_without_clones_they_do_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = lambda work, tasks, processes, threads: ((task, work(task)) for task in tasks)  # noqa: E731
    for module in (agents_experiment, results_experiment):
        monkeypatch.setattr(module, "run_in_processes", here)  # processes start slowly, and have a test of their own
    some = Benchmark(out=tmp_path, work=tmp_path, methods=("random", "marginal"), processes=2)
    some.run()
    assert {row["method"] for row in read_rows(some)} == {"random", "marginal"}
    assert [folder.name for folder in tmp_path.rglob("demonstrations-easy/*")] == ["labelled"]
    with pytest.raises(ValueError, match=r"methods must be among .*, got \('random', 'none'\)"):
        Benchmark(methods=("random", "none")).run()


@pytest.mark.pipeline
def test_several_processes_make_the_same_rows(finished: Benchmark, copied: Benchmark, tmp_path: Path) -> None:
    shutil.rmtree(next(copied.work.rglob("easy-*")))
    apart = replace(copied, out=tmp_path / "apart", processes=2)
    apart.run()
    assert solved_by_cell(read_rows(apart)) == solved_by_cell(read_rows(finished))


@pytest.mark.pipeline
def test_rows_blind_to_latents_are_taken_over_from_another_model(
    finished: Benchmark, tmp_path: Path, played: list[object]
) -> None:
    shipped, elsewhere = json.loads(finished.json.read_text()), tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({**shipped, "labels_of": "another", "checkpoint": "another", "commit": "abc1234"}))
    beside = Benchmark(out=tmp_path / "out", work=tmp_path / "nothing", methods=BLIND, baselines=elsewhere)
    beside.run()
    assert not played
    results = json.loads(beside.json.read_text())
    assert results["labels_of"] == shipped["labels_of"]
    assert {row["commit"] for row in results["rows"]} == {"abc1234"}
    blind_rows = (row for row in shipped["rows"] if row["method"] in BLIND)
    assert solved_by_cell(results["rows"]) == solved_by_cell(blind_rows)

    replace(beside, methods=(*BLIND, "expert_latents"), work=finished.work).run()
    assert len(played) == 1
    results = json.loads(beside.json.read_text())
    assert [row["method"] for row in results["rows"] if "commit" not in row] == ["expert_latents"]
    taken, rows = len(results["rows"]) - 1, len(results["rows"])
    assert f"; {taken} of {rows} rows from commit `abc1234`:" in tabulate_cloning(results)


@pytest.mark.pipeline
def test_baselines_of_other_settings_are_rejected(finished: Benchmark, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({**json.loads(finished.json.read_text()), "frames": 1}))
    other = Benchmark(out=tmp_path / "other", work=tmp_path / "nothing", methods=BLIND, baselines=elsewhere)
    with pytest.raises(ValueError, match=r"elsewhere.json holds rows of other settings, frames 1, not 4096$"):
        other.run()
    with pytest.raises(ValueError, match=r"results '.*missing.json' must be a file"):
        replace(other, baselines=tmp_path / "missing.json").run()
    assert not other.json.exists()


@pytest.mark.pipeline
def test_rows_of_another_player_are_rejected(finished: Benchmark) -> None:
    with pytest.raises(ValueError, match="other settings"):
        replace(finished, player="random").run()


def test_one_mode_may_come_first() -> None:
    cells = Benchmark(preset="full").list_cells(BENCHMARK_SIZES["full"])
    for mode in ("easy", "hard"):
        some = Benchmark(preset="full", modes=(mode,)).list_cells(BENCHMARK_SIZES["full"])
        assert some == [cell for cell in cells if cell["mode"] == mode]
        assert some
        assert Benchmark(preset="full", modes=(mode, mode)).list_cells(BENCHMARK_SIZES["full"]) == some
    for modes in (("hard",), ()):
        with pytest.raises(ValueError, match=r"modes must be among \['easy'\], one or more, got \("):
            Benchmark(modes=modes).run()


def test_more_labels_than_samples_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARK_SIZES, "smoke", {**BENCHMARK_SIZES["smoke"], "labelled_frames": 640, "labels": [641]})
    command = Benchmark(out=tmp_path / "out", work=tmp_path / "work")
    monkeypatch.setattr(
        Benchmark, "list_cells", lambda self, size: [{"mode": "easy", "method": "lam", "labels": 641, "seed": 0}]
    )
    with pytest.raises(ValueError, match=r"labels must be in 1\.\.576, the number of labelled samples, got 641"):
        command.run()


def test_seeds_are_gathered() -> None:
    rows = [
        {"mode": "easy", "method": "lam", "labels": 16, "solved_by_level": "0101"},
        {"mode": "easy", "method": "lam", "labels": 16, "solved_by_level": "0111"},
        {"mode": "easy", "method": "random", "labels": None, "solved_by_level": "0000"},
    ]
    scores = gather_seeds(rows, KEYS)
    assert scores["easy", "lam", 16]["solved"] == 5 / 8
    assert scores["easy", "lam", 16]["by_seed"] == [0.5, 0.75]
    assert scores["easy", "random", None]["interval"] == (0, 0)
