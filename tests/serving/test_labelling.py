"""Latent actions of video files and frames in one call, and what cannot be labelled."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genie_gym
from genie_gym import cli
from genie_gym.data.frames import resize, to_float
from genie_gym.data.video import write_video
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world
from genie_gym.serving.labelling import label_video


def make_frames(count: int, height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [2, 3, 64, 65, 66, 130, 200])
def test_stretches_have_the_labels_of_the_whole_video(tiny_checkpoint: Path, count: int) -> None:
    world, frames = load_world(tiny_checkpoint), make_frames(count)
    labels = genie_gym.label(frames, tiny_checkpoint)
    assert labels.dtype == np.int64
    assert labels.tolist() == world.label(to_float(frames)[None])[0].tolist()


@pytest.mark.parametrize("kind", ["str", "Path", "array", "tensor"])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_files_and_frames_of_any_size_are_resized(tiny_checkpoint: Path, tmp_path: Path, kind: str, fit: Any) -> None:
    frames, path = make_frames(9, 90, 120), tmp_path / "video.mp4"
    write_video(path, frames, 10)
    video = {"str": str(path), "Path": path, "array": frames, "tensor": torch.from_numpy(frames)}[kind]
    expected = np.stack([resize(frame, 64, 64, fit) for frame in frames])
    labels = genie_gym.label(video, tiny_checkpoint, fit=fit)
    assert labels.tolist() == load_world(tiny_checkpoint).label(to_float(expected)[None])[0].tolist()


def test_a_file_is_read_at_the_rate_of_the_world_or_the_given_one(
    make_world: Any, vary: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, make_frames(20), 10)
    world = make_world("additive")
    assert len(label_video(world, path)) == 19
    assert len(label_video(world, path, fps=5)) == 9
    world.config = vary(world.config, {"fps": 5.0})
    assert len(label_video(world, path)) == 9
    assert len(label_video(world, path, fps=10)) == 19


@pytest.mark.parametrize(
    ("video", "settings", "word"),
    [
        ("missing.mp4", {}, "video must be a file that exists, got 'missing.mp4'"),
        (".", {}, "video must be a file that exists"),
        (None, {}, "video must be a file, or"),
        ([1, 2], {}, "video must be a file, or"),
        (make_frames(1), {}, "video must be of at least two frames"),
        (make_frames(4)[0], {}, "video must have the shape"),
        (make_frames(4).transpose(0, 3, 1, 2), {}, "video must have the shape"),
        (make_frames(4) / 255, {}, "video must be uint8, got float64"),
        (torch.zeros(4, 3, 64, 64), {}, "video must be uint8, got torch.float32"),
        (make_frames(4), {"fps": 5}, "fps must be left out with frames"),
        (make_frames(4), {"fit": "stretch"}, "fit must be"),
        (make_frames(4), {"device": "nowhere"}, "device"),
    ],
)
def test_what_cannot_be_labelled_is_refused(
    tiny_checkpoint: Path, video: Any, settings: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        genie_gym.label(video, tiny_checkpoint, **settings)


@pytest.mark.parametrize(
    ("videos", "words"),
    [
        (make_frames(4)[None], "got an array"),
        (make_frames(4), "got an array"),
        ([[1]], "got list"),
        (torch.zeros(4, 3, 64, 64), r"got \(4, 3, 64, 64\) torch.float32"),
        (torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8), r"got \(1, 4, 3, 64, 64\) torch.uint8"),
        (torch.full((1, 4, 3, 64, 64), 255.0), r"in \[0, 1\], got 255..255"),
        (torch.full((1, 4, 3, 64, 64), -0.5), r"in \[0, 1\], got -0.5..-0.5"),
        (torch.full((1, 4, 3, 64, 64), float("nan")), r"in \[0, 1\], got nan..nan"),
    ],
)
def test_a_world_says_how_to_label_what_is_no_video(tiny_world: GenieWorldModel, videos: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"videos must be .*{words}.*to_float converts .* genie_gym.label takes"):
        tiny_world.label(videos)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "label", *map(str, arguments)])
    cli.main()


def test_the_command_writes_a_table(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, out = make_frames(12, 70, 64), tmp_path / "new" / "labels.csv"
    write_video(tmp_path / "video.mp4", frames, 10)
    run(monkeypatch, tmp_path / "video.mp4", "--checkpoint", tiny_checkpoint, "--out", out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = genie_gym.label(frames, tiny_checkpoint)
    assert [int(row["latent_action"]) for row in rows] == labels.tolist()
    assert [int(row["frame"]) for row in rows] == list(range(11))
    assert [row["name"] for row in rows] == [str(action) for action in labels]
    said = capsys.readouterr().out
    assert said.startswith("11 transitions: ")
    assert said.endswith(f"; see {out}\n")


def test_a_table_that_cannot_be_written_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, word in (
        (("missing.mp4", "--out", tmp_path), "--out must be a file, not a folder"),
        (("missing.mp4", "--out", tmp_path / "a.csv"), "video must be a file that exists, got 'missing.mp4'"),
    ):
        with pytest.raises(SystemExit) as error:
            run(monkeypatch, *arguments)
        assert error.value.code == 2
        assert word in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
