"""Video distances of a world: the table's numbers and baselines, from features that are easy to compute."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.lib.tables.quality import tabulate_distances
from experiments.release import video_distances
from experiments.release.video_distances import VideoDistances, extract_kept

pytestmark = pytest.mark.pipeline


def test_distances_are_measured_by_mode_and_player(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, device: str) -> Any:
        assert path == tmp_path / "i3d.safetensors"
        return lambda videos: videos.mean(dim=(3, 4)).flatten(1)

    monkeypatch.setattr(video_distances, "load_i3d", load)
    i3d = tmp_path / "i3d.safetensors"
    experiment = VideoDistances(checkpoint=str(tiny_checkpoint), i3d=i3d, out=tmp_path, work=tmp_path)
    experiment.run()
    results = json.loads(experiment.json.read_text())
    assert {name: part["clips"] for name, part in results["sets"].items()} == dict.fromkeys(
        ("easy/sticky", "easy/player", "hard/sticky", "hard/player"), 2
    )
    assert results["clips"] == 8
    kinds = {"rebuilt", "copy_last", "random_actions", "other_real", "rollout_to_others"}
    for part in (results, *results["sets"].values()):
        for name in ("fvd", "fvd_procgen"):
            assert part[name] > 0
            assert set(part[f"{name}_beside"]) == kinds
    table = tabulate_distances(results)
    assert "fvd (I3D) of roll-outs, clips 8 / 2 / 2 / 2 / 2" in table
    assert table.count("- other real clips |") == 2


def test_features_that_are_kept_are_not_computed_again(tmp_path: Path) -> None:
    videos, computed = torch.rand(5, 2, 3, 4, 4), []

    def extract(part: Tensor) -> Tensor:
        computed.append(len(part))
        if len(computed) == 2:
            raise KeyboardInterrupt
        return part.mean(dim=(3, 4)).flatten(1)

    with pytest.raises(KeyboardInterrupt):
        extract_kept(extract, tmp_path, videos, chunk=2)
    features = extract_kept(extract, tmp_path, videos, chunk=2)
    assert computed == [2, 2, 2, 1]  # the first chunk once
    assert torch.equal(features, videos.mean(dim=(3, 4)).flatten(1))


def test_wrong_weights_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        VideoDistances(i3d=tmp_path / "missing.safetensors", out=tmp_path).run()
