"""The command line under torchrun: a world trained by two processes, exported, and bad input told in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_gym.data.video import write_video
from genie_gym.models.loading import read_world
from genie_gym.training.export import export_run
from tests.training.rank_helpers import HANG

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two short videos."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(2):
        frames = np.random.default_rng(number).integers(256, size=(20, 64, 64, 3)).astype(np.uint8)
        write_video(folder / f"{number}.mp4", frames, fps=10)
    return folder


def torchrun(processes: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    command = [sys.executable, *launcher, "-m", "genie_gym.cli", "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


def test_two_processes_train_a_world_that_can_be_exported(videos: Path, tmp_path: Path) -> None:
    # So many steps that one process would keep the tokens of its clips: two draw different ones, and encode together.
    options = ["--preset", "tiny", "--tokenizer-steps", "2", "--world-steps", "12", "--start-clips", "2"]
    done = torchrun(2, "--data", str(videos), "--out", str(tmp_path / "run"), *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved") == 1
    saved = read_world(tmp_path / "run" / "checkpoint")
    exported = read_world(export_run(tmp_path / "run", tmp_path / "exported"))
    assert exported.config == saved.config
    assert np.array_equal(exported.start_clips, saved.start_clips)
    weights = saved.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in exported.state_dict().items())


def test_more_processes_than_divide_a_batch_are_refused_in_one_line(videos: Path, tmp_path: Path) -> None:
    done = torchrun(3, "--data", str(videos), "--out", str(tmp_path / "run"), "--preset", "tiny")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("genie-gym: ")]
    assert told == ["genie-gym: Preset.tokenizer_training.batch_size must be a multiple of 3 (3 ranks), got 4"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["foo", "cuda"])
def test_a_device_that_is_not_there_is_refused_in_one_line_before_videos_are_converted(
    device: str, videos: Path, tmp_path: Path
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("has a GPU")
    options = ["--preset", "tiny", "--device", device]
    done = torchrun(2, "--data", str(videos), "--out", str(tmp_path / "run"), *options)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("genie-gym: ")]
    assert len(told) == 1
    assert "device must be" in told[0]
    assert not (tmp_path / "run").exists()
