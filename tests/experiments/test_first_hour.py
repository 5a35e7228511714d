"""The page on the first hour runs, and its steps are those that were timed."""

import json
import re
from pathlib import Path

import pytest

from experiments.lib.tables.first_hour import tabulate_first_hour
from experiments.release.first_hour import PAGE, FirstHour, shorten
from genie_gym.results.files import ROOT

HEADS = re.findall(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)


@pytest.mark.pipeline
def test_the_page_runs_with_less_training(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("stable_baselines3")
    hour = FirstHour(out=tmp_path)
    hour.run()
    rows = json.loads(hour.json.read_text())["rows"]
    assert [row["step"] for row in rows] == HEADS
    assert all(row["seconds"] >= 0 < row["core_seconds"] for row in rows)


def test_the_steps_that_were_timed_are_those_of_the_page() -> None:
    results = ROOT / "experiments" / "results" / "first_hour.json"
    if not results.exists():
        pytest.skip("not timed yet")
    rows = json.loads(results.read_text())["rows"]
    assert [row["step"] for row in rows] == ["Install", *HEADS]


def test_the_table_has_a_row_for_each_step_and_one_for_all() -> None:
    steps = [
        {"step": "Install", "seconds": 120.4, "core_seconds": 30},
        {"step": "Train", "seconds": 240, "core_seconds": 120},
    ]
    about = {"command": "python -m x", "cores": 2, "machine": {"kind": "AMD EPYC, AVX2, 2 threads"}}
    lines = tabulate_first_hour({"rows": steps, **about}).splitlines()
    assert lines[2:5] == ["| Install | 120 | 30 |", "| Train | 240 | 120 |", "| all | 360 | 150 |"]
    assert lines[-1] == "Measured by `python -m x` on 2 cores of AMD EPYC."


def test_a_page_without_the_sizes_of_its_smoke_test_is_refused() -> None:
    with pytest.raises(ValueError, match="page must hold '--frames 16'"):
        shorten("no such page")
