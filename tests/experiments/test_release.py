"""The release scripts, whole, at the size of a toy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.readme_tables import fill
from experiments.release import lengthen, player, train, video_features
from genie_gym.configs import RecordConfig
from genie_gym.data import held_out
from genie_gym.data.expert import Expert
from genie_gym.data.players import parse_shares
from genie_gym.data.record import record
from genie_gym.metrics.video_features import ORDERS, load_features
from genie_gym.models.loading import load

pytestmark = pytest.mark.pipeline


TEACHER = """
import numpy as np

def right():
    return lambda frames: np.full(len(frames), 7, np.int32)
"""


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "run"
    release = train.Release(out=out, preset="tiny", frames=4096, tokenizer_steps=4, world_steps=4)
    release.run()
    release.run()
    assert load(out / "checkpoint").config.num_latent_actions == 8


def test_a_player_is_made_from_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = tmp_path / "teacher.py"
    teacher.write_text(TEACHER)
    settings: dict[str, Any] = {"games_a_mode": 2, "memory": 256, "batch_size": 16, "episodes": 64}
    out = tmp_path / "player"
    player.PlayerRelease(teacher=f"{teacher}:right+velocity", out=out, train_steps=60, **settings).run()
    student = Expert(out / "expert.safetensors")
    assert (student(np.zeros((50, 64, 64, 3), np.uint8)) == 7).mean() > 0.8
    assert "student" in capsys.readouterr().out
    with pytest.raises(ValueError, match="velocity"):
        player.PlayerRelease(teacher=f"{teacher}:right", out=out).run()


def test_clips_are_shuffled_and_frozen_as_their_labels_say() -> None:
    torch.manual_seed(0)
    numbers = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(40, 16, 3, 2, 2)
    videos, orders = video_features.reorder(numbers)
    assert (orders[:20] == 0).all()
    assert set(orders[20:].tolist()) == {1, 2}
    for video, order in zip(videos[:, :, 0, 0, 0].tolist(), orders.tolist(), strict=True):
        if ORDERS[order] == "as played":
            assert video == sorted(video)
        if ORDERS[order] == "shuffled":
            assert video != sorted(video)
            assert sorted(video) == list(range(16))
        if ORDERS[order] == "frozen":
            assert len(set(video)) <= 12
            assert video == sorted(video)


def test_features_for_video_distances_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "FRAMES", 4096)
    settings: dict[str, Any] = {"frames": 1024, "train_steps": 2, "batch_size": 2}
    video_features.FeaturesRelease(out=tmp_path, json=tmp_path / "score.json", **settings).run()
    assert load_features(tmp_path / "video_features.safetensors")(torch.rand(2, 16, 3, 64, 64)).shape == (2, 64)
    scores = json.loads((tmp_path / "score.json").read_text())
    assert {"game_accuracy", "order_accuracy", "action_accuracy", "command"} <= set(scores)
    assert scores["distances"]["other_clips"] > 0


def test_lengthening_trains_the_dynamics_and_nothing_else(tmp_path: Path, tiny_checkpoint: Path) -> None:
    config = RecordConfig(frames=2048, num_envs=8)
    record(config, parse_shares(["random=1"]), tmp_path / "data")
    settings: dict[str, Any] = {"data": tmp_path / "data", "out": tmp_path / "run", "checkpoint": str(tiny_checkpoint)}
    for minutes in (0.0, None):
        lengthen.Lengthening(**settings, clip_length=20, train_steps=4, batch_size=2, minutes=minutes).run()
        assert (tmp_path / "run" / "checkpoint").exists() == (minutes is None)
    before, after = (load(folder, precision="float32") for folder in (tiny_checkpoint, tmp_path / "run" / "checkpoint"))
    changed = {
        name.split(".")[0]
        for name, weights in after.state_dict().items()
        if not torch.equal(weights, before.state_dict()[name])
    }
    assert changed == {"dynamics"}


def test_tables_go_between_the_markers() -> None:
    document = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"
    assert fill(document, "new") == "before\n<!-- results -->\nnew\n<!-- /results -->\nafter\n"
    with pytest.raises(ValueError, match="results"):
        fill("no markers", "new")
