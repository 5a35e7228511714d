"""Tests that clips cut on a device equal those read from disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_gym.data.clips import ClipDataset, batches
from genie_gym.data.device_clips import DeviceClips, hold_on_device
from genie_gym.data.shards import write_shard


@pytest.fixture
def two_shards(tmp_path: Path, make_recording: Any) -> Path:
    for number, lengths in enumerate([(9, 30), (25, 3)]):
        write_shard(tmp_path / f"shard-{number}.h5", make_recording(lengths), ["a", "b"])
    return tmp_path


@pytest.mark.parametrize(("clip_length", "frame_step", "size"), [(4, 1, 64), (3, 2, 64), (1, 1, 32)])
def test_batches_are_those_read_from_disk(two_shards: Path, clip_length: int, frame_step: int, size: int) -> None:
    """This holds for two shards, resumed runs, frame steps and scaled frames."""
    dataset = ClipDataset(two_shards, clip_length, frame_step, size, size)
    drawn = DeviceClips(dataset, "cpu").batches(5, 7, 2, 20)
    places = set()
    for batch, other in zip(drawn, batches(dataset, 5, 7, 2, 20), strict=True):
        assert torch.equal(batch.videos, other.videos)
        assert torch.equal(batch.numbers, other.numbers)
        places |= {dataset._locate(int(number))[0] for number in batch.numbers}
    assert places == {0, 1}


def test_processes_copy_their_rows_of_a_batch(two_shards: Path) -> None:
    clips = DeviceClips(ClipDataset(two_shards, 4), "cpu")
    (whole,), rows = clips.batches(6, 7, 2, 1), np.array([1, 4])
    (part,) = clips.batches(6, 7, 2, 1, rows)
    assert torch.equal(part.videos, whole.videos[rows])
    assert torch.equal(part.numbers, whole.numbers[rows])


def test_a_processor_copies_no_frames(two_shards: Path) -> None:
    assert hold_on_device(ClipDataset(two_shards, 4), "cpu") is None
