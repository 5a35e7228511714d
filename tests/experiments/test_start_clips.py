"""Start clips of the shipped world: which starts are chosen, and how they get into a checkpoint."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from experiments.release import start_clips
from experiments.release.start_clips import StartClips, draw_release_clips
from genie_gym.metrics.starts import Starts
from genie_gym.models.loading import find_checkpoint, read_world
from genie_gym.serving import load_world


def test_every_other_clip_of_a_mode_has_an_obstacle_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Starts] = []
    draw = start_clips.draw_starts
    monkeypatch.setattr(start_clips, "draw_starts", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    monkeypatch.setattr(start_clips, "CLIPS", 4)
    monkeypatch.setattr(start_clips, "_POOL", 3)
    clips = draw_release_clips(("hard",))
    assert clips.shape == (4, 4, 64, 64, 3)
    (starts,) = drawn
    same = (clips[:, None] == starts.frames).all(axis=(2, 3, 4, 5))
    assert (same.sum(axis=1) == 1).all()
    chosen = same.argmax(axis=1)
    assert len(set(chosen)) == 4
    assert starts.has_obstacle[chosen[1::2]].all()
    assert (10_000 <= starts.level_seeds).all()
    assert (starts.level_seeds < 11_000).all(), "test levels are for final scores"


def test_clips_replace_those_of_a_checkpoint_and_leave_its_weights(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "world")
    (folder / "start_clips.safetensors").unlink()
    save_file({"start_frames": torch.zeros(2, 64, 64, 3, dtype=torch.uint8)}, folder / "start_frames.safetensors")
    clips = np.random.default_rng(0).integers(256, size=(8, 4, 64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(start_clips, "draw_release_clips", lambda seed: clips)
    StartClips(checkpoint=str(folder), picture=tmp_path / "out" / "clips.png").run()
    assert np.array_equal(read_world(folder).start_clips, clips)
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny_checkpoint.iterdir()}
    weights = "model-00001-of-00001.safetensors"
    assert (folder / weights).read_bytes() == (tiny_checkpoint / weights).read_bytes()
    with Image.open(tmp_path / "out" / "clips.png") as picture:
        assert np.array_equal(np.asarray(picture)[:, -64:], clips[-1, -1])


def test_a_world_on_the_hub_is_not_changed_in_its_cache(tmp_path: Path) -> None:
    """It is refused before anything is fetched or drawn."""
    with pytest.raises(ValueError, match="checkpoint must be on disk to be changed"):
        StartClips(checkpoint="hf://you/world", picture=tmp_path / "clips.png").run()
    assert not any(tmp_path.iterdir())


def test_the_shipped_world_opens_on_varied_clips_of_four_frames() -> None:
    world = load_world("coinrun")
    assert world.start_clips.shape == (32, 4, 64, 64, 3)
    assert len({clip[-1].tobytes() for clip in world.start_clips}) == 32
    assert [path.name for path in find_checkpoint("coinrun").glob("start_*")] == ["start_clips.safetensors"]
