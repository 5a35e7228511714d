"""Small versions of the measurements of large data."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.scale import clip_formats, convert_many
from experiments.scale.clip_formats import FormatsTable
from experiments.scale.convert_many import ManyVideos
from experiments.scale.one_process import OneProcess
from genie_gym.results.files import ROOT


@pytest.mark.pipeline
def test_many_videos_are_converted_killed_resumed_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """The shards hold 128 videos each, and the command is killed when it has written the first."""
    small = {"videos": 260, "hours": 1 / 30, "seconds": 0.1, "steps": 2}
    monkeypatch.setitem(convert_many._SIZES, "smoke", small)
    monkeypatch.setattr(convert_many, "_RATES", (5, 10, 15))
    experiment = ManyVideos(out=tmp_path / "out", work=tmp_path / "work", workers=1)
    experiment.run()
    results = json.loads(experiment.json.read_text())
    assert (results["videos"], results["broken"], results["frames"]) == (260, 3, 2570)
    assert results["shards_before_kill"] < results["shards"] == 3
    assert results["train"]["peak_mb"] < 2000 > results["long"]["peak_mb"] > 0
    assert results["long"]["train_frames"] == 6000
    assert "3 videos broken and left out" in capfd.readouterr().out


def test_formats_store_the_same_frames(tmp_path: Path) -> None:
    table = FormatsTable(out=tmp_path / "out", work=tmp_path / "work")
    table.run()
    (row,) = json.loads(table.json.read_text())["rows"]
    errors = {each["format"]: each["mean_error"] for each in row["clip_formats"]}
    assert errors["HDF5, gzip"] == errors["tar, PNG"] == 0 < errors["tar, JPEG 95"] < 10
    assert clip_formats._CLIP == 16


def test_training_is_timed_beside_another_checkout(tmp_path: Path) -> None:
    experiment = OneProcess(other=ROOT, out=tmp_path / "out", work=tmp_path / "work")
    experiment.run()
    rows = json.loads(experiment.json.read_text())["by_kind"]
    assert [row["kind"] for row in rows] == ["tokenizer", "actions", "world"]
    assert all(row["own_cpu_s"] > 0 < row["other_cpu_s"] for row in rows)
    with pytest.raises(ValueError, match="other must be the folder of a checkout"):
        OneProcess(other=tmp_path, out=tmp_path / "out").run()
