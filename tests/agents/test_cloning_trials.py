"""Trials of cloning: what they change, what they share with the benchmark, and on which levels they play."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents import cloning_trials
from agents.cloning_trials import TRIALS, CloningTrials, change_store
from agents.evaluation import choose_levels
from experiments.lib.tables.agents import tabulate_trials

HIDDEN, ALONE, HALF = "past actions hidden", "decoder alone, without posteriors", "half of the batches"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloningTrials]:
    """Three finished trials, of fewer methods and temperatures than are published."""
    folder = tmp_path_factory.mktemp("trials")
    command = CloningTrials(out=folder / "out", work=folder / "work", trials=("as in the table", HALF, ALONE))
    methods = {"as in the table": ("oracle", "lam_relabel"), HALF: ("oracle",), ALONE: ("lam_relabel",)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloning_trials, "TEMPERATURES", (0.5, 1.0))
        for name, few in methods.items():
            patch.setitem(TRIALS, name, TRIALS[name]._replace(methods=few))
        command.run()
        yield command


def read(command: CloningTrials) -> dict[str, Any]:
    return json.loads(command.json.read_text())


def find_configs(command: CloningTrials) -> dict[str, dict[str, Any]]:
    """Configs of the clones by their folder below that of the benchmark."""
    (work,) = command.benchmark.run_folder.glob("easy-*")
    return {str(path.parent.relative_to(work)): json.loads(path.read_text()) for path in work.glob("**/cloning.json")}


@pytest.mark.pipeline
def test_trials_play_validation_levels_at_every_temperature(finished: CloningTrials) -> None:
    results = read(finished)
    assert results["level_set"] == "validation"
    assert set(results["cores"]["easy"]["seeds"]) <= set(choose_levels("validation", results["core_among"]))
    assert [(row["trial"], row["method"]) for row in results["rows"]] == [
        (trial, method) for trial in finished.trials for method in TRIALS[trial].methods
    ]
    for row in results["rows"]:
        for solved, number in (("solved", "levels"), ("core_solved", "core_levels")):
            assert list(row[solved]) == ["0.5", "1.0"]
            assert all(0 <= each <= row[number] for each in row[solved].values())


@pytest.mark.pipeline
def test_a_trial_changes_its_own_clones_alone(finished: CloningTrials) -> None:
    configs = find_configs(finished)
    plain = configs["oracle-0"]
    halved = configs["trials/half-of-the-batches/oracle-0"]
    assert halved["training"].pop("train_steps") * 2 == plain["training"].pop("train_steps")
    assert halved == plain
    alone = configs["trials/decoder-alone-without-posteriors/lam_relabel-0"]
    assert alone["decoder_share"] == 1 > configs["lam_relabel-0"]["decoder_share"]


@pytest.mark.pipeline
def test_clones_that_the_benchmark_will_play_count_among_its_costs(finished: CloningTrials) -> None:
    lines = map(json.loads, finished.benchmark.costs.path.read_text().splitlines())
    trained = [(line["need"], line["seed"]) for line in lines if line["stage"] == "training"]
    assert trained == [(method, 0) for method in TRIALS["as in the table"].methods]


@pytest.mark.pipeline
def test_finished_trials_are_not_repeated(finished: CloningTrials, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(finished)
    monkeypatch.setattr(cloning_trials, "play_levels", None)
    finished.run()
    assert read(finished) == before
    with pytest.raises(TypeError):
        replace(finished, trials=(HIDDEN,)).run()


def test_unknown_trials_and_modes_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trials must be among .* got \('louder',\)"):
        CloningTrials(out=tmp_path, work=tmp_path, trials=("louder",)).run()
    with pytest.raises(ValueError, match=r"modes must be among .* got \('hard',\)"):
        CloningTrials(out=tmp_path, work=tmp_path, modes=("hard",)).run()


@pytest.mark.pipeline
def test_each_trial_has_its_folder(finished: CloningTrials) -> None:
    store = finished.benchmark.open("easy")
    folders = {change_store(store, name).clones for name in TRIALS}
    assert len(folders) == len(TRIALS)
    assert change_store(store, "as in the table") is store


def test_unchanged_clones_play_for_all_seeds_and_changed_ones_for_one() -> None:
    command = CloningTrials(preset="full", modes=("easy",), seed=3, trials=("as in the table", HALF))
    seeds: dict[str, list[int]] = {}
    for cell in command.list_cells():
        if cell["method"] == "oracle":
            seeds.setdefault(cell["trial"], []).append(cell["seed"])
    assert seeds == {"as in the table": [3, 4, 5, 6, 7], HALF: [3]}


def test_a_cell_of_the_table_is_the_mean_over_seeds() -> None:
    about = {"mode": "easy", "trial": HALF, "method": "lam", "core_levels": 50}
    rows = [{**about, "seed": seed, "core_solved": {"0.5": 20 + seed, "1.0": 5}} for seed in range(3)]
    shared = {"level_set": "validation", "frames": 9, "train_steps": 9, "batch_size": 9, "command": "", "commit": ""}
    table = tabulate_trials({**shared, "core_levels": 50, "rows": rows, "machine": {"cpu": "some"}})
    assert table.splitlines()[-1] == f"| {HALF} | `lam` | 3 | 42 / 10 |"


@pytest.mark.pipeline
def test_trials_become_a_table(finished: CloningTrials) -> None:
    caption, table = tabulate_trials(read(finished)).split("\n\n")
    assert "validation levels" in caption
    assert len(table.splitlines()) == 2 + len(read(finished)["rows"])
