"""The page on the first hour runs, and its steps are those that were timed."""

import json
import re
from pathlib import Path

import pytest

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
    assert all(row["minutes"] >= 0 < row["core_minutes"] for row in rows)


def test_the_steps_that_were_timed_are_those_of_the_page() -> None:
    rows = json.loads((ROOT / "experiments" / "results" / "first_hour.json").read_text())["rows"]
    assert [row["step"] for row in rows] == ["Install", *HEADS]


def test_a_page_without_the_sizes_of_its_smoke_test_is_refused() -> None:
    with pytest.raises(ValueError, match="page must hold '--frames 16'"):
        shorten("no such page")
