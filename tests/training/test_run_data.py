"""Tests that a run goes on with its own data alone, at their frame rate, and that no other process trains it."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.data.clips import ClipDataset
from genie_gym.data.manifest import Chosen, write_manifest
from genie_gym.data.shards import Recording, write_shard
from genie_gym.data.sources import find_chosen
from genie_gym.data.video import write_video
from genie_gym.models.loading import read_world
from genie_gym.presets import PRESETS
from genie_gym.system import lock_folder
from genie_gym.training.run import train_preset
from genie_gym.training.run_data import keep_data

Train = Callable[..., str]


def write_noise(path: Path, seed: int, count: int = 24) -> Path:
    """Write a video of noise at 10 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).integers(4, size=(count, 64, 64, 3), dtype=np.uint8) * 64
    write_video(path, frames, fps=10)
    return path


def write_recording(path: Path, seed: int, count: int = 24) -> Path:
    """Write a recorded shard of one episode of noise."""
    recording = Recording.allocate((count,), 64, 64)
    recording.frames[:] = np.random.default_rng(seed).integers(256, size=recording.frames.shape)
    for field in (recording.level_seeds, recording.player, recording.real_actions, recording.rewards):
        field[:] = 0
    recording.episode_starts[:] = np.arange(count) == 0
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shard(path, recording, ["left"])
    return path


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Return a function that trains for two steps with further options, and returns the error's line, or nothing."""

    def run(*options: object) -> str:
        steps = ("--tokenizer-steps", 2, "--world-steps", 2, "--start-clips", 2)
        monkeypatch.setattr(sys, "argv", [str(part) for part in ("genie-gym", "train", "tiny", *steps, *options)])
        try:
            cli.main()
        except SystemExit as error:
            status = error.code
        else:
            return ""
        assert status == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("genie-gym: ")]
        return line

    return run


@pytest.mark.pipeline
@pytest.mark.parametrize("kind", ["videos", "recording", "manifest"])
def test_a_run_is_resumed_with_its_own_data_alone(tmp_path: Path, train: Train, kind: str) -> None:
    data, other, out = tmp_path / "data", tmp_path / "other", tmp_path / "run"
    write, suffix = (write_recording, "h5") if kind == "recording" else (write_noise, "mp4")
    for folder, seed in ((data, 0), (other, 1)):
        write(folder / f"a.{suffix}", seed)
    if kind == "manifest":
        write_manifest(tmp_path / "m.jsonl", [Chosen(data / "a.mp4", ((0, 20),))], None, {})
        write_manifest(tmp_path / "o.jsonl", [Chosen(data / "a.mp4", ((2, 22),))], None, {})
        data, other = tmp_path / "m.jsonl", tmp_path / "o.jsonl"
    run = ("--out", out, "--minutes")
    assert train("--data", data, *run, 0.00001) == ""
    clips = sorted((out / "clips").glob("*.h5"))
    line = train("--data", other, *run, 5)
    assert "was started with other data, 1 files" in line
    assert all(part in line for part in (str(data), str(other), "--data", "--out"))
    assert sorted((out / "clips").glob("*.h5")) == clips, "the run's own clips are kept"
    assert train("--data", data, *run, 0.00001, "--device", "cpu") == ""
    assert train("--data", data, "--out", out, "--on-broken", "skip") == ""
    assert read_world(out / "checkpoint").config.fps is None


@pytest.mark.pipeline
def test_a_run_from_python_keeps_the_digest_of_its_data_too(tmp_path: Path) -> None:
    for name, seed in (("data", 0), ("other", 1)):
        write_recording(tmp_path / name / "a.h5", seed)
    world = PRESETS["tiny"].world
    data, other = (
        ClipDataset(tmp_path / name, 16, height=world.height, width=world.width) for name in ("data", "other")
    )
    run, settings = tmp_path / "run", {"minutes": 1e-5, "progress": False}
    assert train_preset(PRESETS["tiny"], data, run, **settings) is None
    assert json.loads((run / "data.json").read_text())["files"] == 1
    with pytest.raises(ValueError, match=r"was started with other data, 1 files of .*data/a\.h5.* and got 1 .*other"):
        train_preset(PRESETS["tiny"], other, run, **settings)
    assert train_preset(PRESETS["tiny"], data, run, **settings) is None


def test_data_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    """Copies have other times; a run that has not begun takes any data, and one of an earlier version has no digest."""
    data, run = tmp_path / "data", tmp_path / "run"
    for number in range(3):
        write_noise(data / f"{number}.mp4", number)
        keep_data(run, find_chosen(data), [data])
    (run / "data.json").unlink()
    (run / "tokenizer").mkdir()
    (run / "tokenizer" / "training.safetensors").write_bytes(b"")
    keep_data(run, find_chosen(data), [data])
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    keep_data(run, find_chosen(tmp_path / "copy"), [tmp_path / "copy"])
    first = tmp_path / "copy" / "0.mp4"
    for change in (lambda: first.rename(first.with_name("9.mp4")), lambda: write_noise(first, 0, 23), first.unlink):
        change()
        with pytest.raises(ValueError, match=r"was started with other data, 3 files .* and got \d of"):
            keep_data(run, find_chosen(tmp_path / "copy"), [tmp_path / "copy"])


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"digest": 1}', "[" * 100_000, "\xff"])
def test_damaged_notes_of_the_data_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "training.safetensors").write_bytes(b"")
    (tmp_path / "data.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"data\.json.*delete it if --data is that of the run"):
        keep_data(tmp_path, [Chosen(write_noise(tmp_path / "a.mp4", 0))], [tmp_path])


@pytest.mark.pipeline
def test_a_world_has_the_rate_of_its_clips(tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(tmp_path / "videos" / "a.mp4", 0, 60)
    options = ["--out", tmp_path / "clips", "--fps", 5, "--size", "64x64"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", "convert", str(tmp_path / "videos"), *map(str, options)])
    cli.main()
    line = train("--data", tmp_path / "clips", "--out", tmp_path / "run", "--fps", 10)
    assert "clips was converted with --fps 5.0 --size 64x64" in line
    assert "--fps 10.0 --size 64x64 --fit crop is asked for" in line
    assert train("--data", tmp_path / "clips", "--out", tmp_path / "run") == ""
    assert read_world(tmp_path / "run" / "checkpoint").config.fps == 5


@pytest.mark.pipeline
@pytest.mark.parametrize("option", ["--data", "--start-data"])
def test_a_folder_of_data_may_contain_the_run(tmp_path: Path, train: Train, option: str) -> None:
    """The run's own clips are no data, in a first call and in the next."""
    write_noise(tmp_path / "a.mp4", 0)
    write_noise(tmp_path / "start" / "b.mp4", 1)
    run = ("--out", tmp_path / "run", "--data", tmp_path / "start", "--start-data", tmp_path / "start")
    for minutes in (0.00001, 5):
        assert train(*run, option, tmp_path, "--minutes", minutes) == ""
    assert read_world(tmp_path / "run" / "checkpoint").start_clips.shape == (2, 4, 64, 64, 3)


@pytest.mark.parametrize("count", [0, -1])
def test_wrong_numbers_of_start_clips_are_named_before_videos_are_converted(
    tmp_path: Path, train: Train, count: int
) -> None:
    write_noise(tmp_path / "a.mp4", 0)
    line = train("--data", tmp_path, "--out", tmp_path / "run", "--start-clips", count)
    assert line == f"genie-gym: start_clips must be positive, got {count}"
    assert not (tmp_path / "run" / "clips").exists()


def test_two_processes_do_not_train_one_run(tmp_path: Path, train: Train) -> None:
    write_noise(tmp_path / "a.mp4", 0)
    with lock_folder(tmp_path / "run"):
        line = train("--data", tmp_path, "--out", tmp_path / "run")
    assert f"{tmp_path / 'run'} is in use by process {os.getpid()} on" in line
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("fps", ["nan", "inf", "-inf", "-1", "0", "1e9"])
@pytest.mark.parametrize("kind", ["videos", "recording"])
def test_wrong_rates_are_refused_before_training(tmp_path: Path, train: Train, fps: Any, kind: str) -> None:
    write_noise(tmp_path / "a.mp4", 0) if kind == "videos" else write_recording(tmp_path / "a.h5", 0)
    line = train("--data", tmp_path, "--out", tmp_path / "run", "--fps", fps)
    assert "fps must be" in line
    assert not (tmp_path / "run" / "clips").exists()
