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
from agents.benchmark import BENCHMARK_SIZES, Benchmark
from agents.config import POLICIES
from agents.methods import CLONING_METHODS
from experiments.lib.tables.agents import tabulate_agents, tabulate_cloning
from genie_gym.results import experiment as results_experiment

BLIND = tuple(name for name, method in CLONING_METHODS.items() if method.is_blind_to_latents)


def read_rows(command: Benchmark) -> list[dict[str, Any]]:
    return json.loads(command.json.read_text())["rows"]


def solved_by_cell(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, int | None], str]:
    return {(row["method"], row["labels"]): row["outcomes"] + row["core_outcomes"] for row in rows}


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
    assert len(rows) == len(finished.list_cells()) == len(CLONING_METHODS) + 2  # with two numbers of labels
    for row in rows:
        assert {"mode", "player", "method", "labels", "seed", "env_steps", "commit"} <= set(row)
        assert row["levels"] == len(row["outcomes"]) == row["solved"] + row["deaths"] + row["timeouts"] == 2
        assert row["core_levels"] == len(row["core_outcomes"]) == 1
        assert row["core_solved"] == row["core_outcomes"].count("1")
        assert len(row["actions"]) == 15
        assert sum(row["actions"]) == row["env_steps"]
    assert finished.picture.exists()


@pytest.mark.pipeline
def test_the_core_is_written_once_and_the_constant_that_chose_it_fails_all_of_it(finished: Benchmark) -> None:
    results = json.loads(finished.json.read_text())
    core = results["cores"]["easy"]
    assert results["level_set"] == "test"
    assert all(20_000 <= level < 20_000 + core["among"] for level in core["seeds"])
    rows = {row["method"]: row for row in results["rows"]}
    best = rows["best_constant"]
    assert best["core_solved"] == 0 < best["solved"]
    assert best["outcomes"] == rows[f"constant_{core['best_constant']}"]["outcomes"]
    assert {"core", "recording", "labelling", "training", "playing"} == set(results["cpu_seconds"])


@pytest.mark.pipeline
def test_a_blind_twin_plays_the_actions_that_its_method_played(finished: Benchmark) -> None:
    rows = {(row["method"], row["labels"]): row for row in read_rows(finished)}
    twins = [name for name, method in CLONING_METHODS.items() if method.twin_of]
    assert {CLONING_METHODS[name].twin_of for name in twins} == {
        "player",
        "oracle",
        "lam",
        "lam_relabel",
        "idm_relabel",
        "labelled_only",
    }
    for (name, labels), row in rows.items():
        original = CLONING_METHODS[name].twin_of
        if original is not None:
            counts = np.array(rows[original, labels]["actions"])
            assert set(np.flatnonzero(row["actions"])) <= set(np.flatnonzero(counts))
            shares = np.array(row["actions"]) / row["env_steps"]
            assert np.abs(shares - counts / counts.sum()).max() < 0.15


def test_a_twin_without_its_method_is_rejected(finished: Benchmark, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(finished.work, folder, ignore=shutil.ignore_patterns("demonstrations-*", "easy-*"))
    alone = replace(finished, out=tmp_path / "out", work=folder, methods=("blind_twin_lam",))
    with pytest.raises(ValueError, match="methods must include 'lam' too, whose blind twin draws as it plays"):
        alone.run()


@pytest.mark.pipeline
def test_results_become_a_table(finished: Benchmark) -> None:
    results = json.loads(finished.json.read_text())
    assert "1 seeds, " in tabulate_cloning(results)
    assert "1 of 5 seeds so far" in tabulate_cloning({**results, "seeds": 5})
    caption, table, pairs, costs = tabulate_cloning(results).split("\n\n")
    assert (
        f"the first 2 test levels, and their core (easy: 1 of {len(results['cores']['easy']['seeds'])} that" in caption
    )
    assert len(table.splitlines()) == 2 + len(results["rows"])
    assert "| oracle - best blind |" in pairs
    assert "core-hours in all (core " in costs
    assert len(tabulate_agents(results).splitlines()) == 2 + 4 + 1 - 1  # at 64 labels, there is no row with 200


@pytest.mark.pipeline
def test_an_interrupted_run_makes_its_missing_rows_alone(
    finished: Benchmark, copied: Benchmark, played: list[object]
) -> None:
    drop_rows(copied, "player_seen_latents")
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
    rows = [{**row, "commit": "abc1234"} for row in shipped["rows"]]
    elsewhere.write_text(json.dumps({**shipped, "labels_of": "another", "checkpoint": "another", "rows": rows}))
    nothing = tmp_path / "nothing"
    ignored = shutil.ignore_patterns("demonstrations-*", "easy-*")
    shutil.copytree(finished.work, nothing, ignore=ignored)
    beside = Benchmark(out=tmp_path / "out", work=nothing, methods=BLIND, baselines=elsewhere)
    beside.run()
    assert not played
    results = json.loads(beside.json.read_text())
    assert results["labels_of"] == shipped["labels_of"]
    assert {row["commit"] for row in results["rows"]} == {"abc1234"}
    blind_rows = [row for row in shipped["rows"] if row["method"] in BLIND]
    assert solved_by_cell(results["rows"]) == solved_by_cell(blind_rows)

    replace(beside, methods=(*BLIND, "player_seen_latents"), work=finished.work).run()
    assert len(played) == 1
    results = json.loads(beside.json.read_text())
    assert [row["method"] for row in results["rows"] if row["commit"] != "abc1234"] == ["player_seen_latents"]
    assert f"Rows by commit: {len(results['rows']) - 1} at `abc1234`, 1 at `" in tabulate_cloning(results)


@pytest.mark.pipeline
def test_baselines_of_other_settings_are_rejected(finished: Benchmark, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({**json.loads(finished.json.read_text()), "frames": 1}))
    other = replace(finished, out=tmp_path / "other", methods=BLIND, baselines=elsewhere)
    with pytest.raises(ValueError, match=r"elsewhere.json holds rows of other settings, frames 1, not 4096$"):
        other.run()
    with pytest.raises(ValueError, match=r"results '.*missing.json' must be a file"):
        replace(other, baselines=tmp_path / "missing.json").run()
    assert not other.json.exists()


@pytest.mark.pipeline
def test_rows_of_another_player_are_rejected(finished: Benchmark) -> None:
    with pytest.raises(ValueError, match="other settings"):
        replace(finished, player="random").run()


@pytest.mark.pipeline
def test_rows_of_another_config_of_clones_are_rejected(finished: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "compact", replace(POLICIES["compact"], decoder_share=0.5))
    with pytest.raises(ValueError, match="other settings, cloning"):
        finished.run()


def test_what_was_learned_by_other_sizes_is_not_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, smoke = Benchmark(work=tmp_path), BENCHMARK_SIZES["smoke"]
    folders = [command.open("easy").work]
    for name in ("frames", "labelled_frames", "train_steps", "batch_size"):
        monkeypatch.setitem(BENCHMARK_SIZES, "smoke", {**smoke, name: smoke[name] + 1})
        folders.append(command.open("easy").work)
    assert len(set(folders)) == len(folders)


def test_one_mode_may_come_first() -> None:
    cells = Benchmark(preset="full").list_cells()
    for mode in ("easy", "hard"):
        some = Benchmark(preset="full", modes=(mode,)).list_cells()
        assert some == [cell for cell in cells if cell["mode"] == mode]
        assert some
        assert Benchmark(preset="full", modes=(mode, mode)).list_cells() == some
    for modes in (("hard",), ()):
        with pytest.raises(ValueError, match=r"modes must be among \['easy'\], one or more, got \("):
            Benchmark(modes=modes).list_cells()


def test_more_labels_than_samples_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARK_SIZES, "smoke", {**BENCHMARK_SIZES["smoke"], "labelled_frames": 640, "labels": [641]})
    command = Benchmark(out=tmp_path / "out", work=tmp_path / "work")
    monkeypatch.setattr(
        Benchmark,
        "list_cells",
        lambda self: [{"mode": "easy", "player": "expert", "method": "lam", "labels": 641, "seed": 0}],
    )
    with pytest.raises(ValueError, match=r"labels must be in 1\.\.576, the number of labelled samples, got 641"):
        command.run()
