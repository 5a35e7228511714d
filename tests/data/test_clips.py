"""Tests that clips stay within their episodes and batches depend on seed and number alone."""

import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from genie_gym.data.clips import Batch, ClipDataset, batches
from genie_gym.data.shards import Recording, write_shard
from genie_gym.data.video import write_video

Make = Callable[..., Recording]


def _numbers(clip: np.ndarray) -> list[int]:
    return clip[:, 0, 0, 0].tolist()


def _same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.videos, other.videos) and torch.equal(one.numbers, other.numbers)


def test_clips_never_cross_an_episode(shard_path: Path) -> None:
    """In episodes 0..19, 20..24 and 25..64, clips of 8 frames start at 13, 0 and 33 frames."""
    dataset = ClipDataset(shard_path, clip_length=8)
    clips = [_numbers(dataset[index]) for index in range(len(dataset))]
    starts = [*range(13), *range(25, 58)]
    assert clips == [list(range(start, start + 8)) for start in starts]
    assert dataset.num_frames == 65


@pytest.mark.parametrize("held", [False, True])
def test_cutting_another_length_equals_opening_with_it(shard_path: Path, held: bool) -> None:
    whole = ClipDataset(shard_path, clip_length=8)
    whole = whole.in_memory() if held else whole
    cut, opened = whole.cut(3), ClipDataset(shard_path, clip_length=3)
    assert (len(cut), cut.fingerprint, cut.clip_length) == (len(opened), opened.fingerprint, 3)
    assert all((cut[index] == opened[index]).all() for index in range(len(opened)))
    assert (len(whole), whole.clip_length) == (46, 8), "the first dataset is unchanged"
    assert whole.cut(8) is whole
    with pytest.raises(ValueError, match="no clip of 41 frames"):
        whole.cut(41)
    with pytest.raises(ValueError, match="clip_length must be positive, got 0"):
        whole.cut(0)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_frame_steps(shard_path: Path, make_recording: Make, step: int) -> None:
    dataset, recording = ClipDataset(shard_path, clip_length=5, frame_step=step), make_recording()
    span = 4 * step + 1
    for index in (0, len(dataset) // 2, len(dataset) - 1):
        numbers = _numbers(dataset[index])
        assert np.diff(numbers).tolist() == [step] * 4
        actions, rewards = dataset.private(index)
        assert actions.tolist() == [number % 15 for number in numbers[:-1]]
        assert rewards.tolist() == [sum(range(number, number + step)) for number in numbers[:-1]]
        episode = recording.level_seeds[numbers[0] : numbers[0] + span]
        assert (episode == dataset.level(index)).all()
        assert dataset.player(index) == ["left", "right"][recording.player[numbers[0]]]


def test_clip_of_one_frame_and_of_a_whole_episode(shard_path: Path) -> None:
    single = ClipDataset(shard_path, clip_length=1)
    assert len(single) == 65
    assert single.private(3)[0].shape == (0,)
    whole = ClipDataset(shard_path, clip_length=40)
    assert len(whole) == 1
    assert _numbers(whole[0]) == list(range(25, 65))


def test_shards_of_a_folder_are_one_dataset(tmp_path: Path, make_recording: Make) -> None:
    for index, lengths in enumerate([(4, 3), (2,), (6,)]):
        write_shard(tmp_path / f"shard-{index}.h5", make_recording(lengths), ["a", "b"])
    dataset = ClipDataset(tmp_path, clip_length=3)
    assert [_numbers(dataset[index])[0] for index in range(len(dataset))] == [0, 1, 4, 0, 1, 2, 3]
    assert len(ClipDataset([tmp_path / "shard-0.h5", str(tmp_path / "shard-2.h5")], clip_length=3)) == 7
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]


def test_training_never_opens_the_private_group(shard_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    for method in ("__getitem__", "get", "__contains__"):
        real = getattr(h5py.Group, method)

        def note(self: h5py.Group, name: str, *args: Any, real: Any = real, **options: Any) -> Any:
            opened.append(name)
            return real(self, name, *args, **options)

        monkeypatch.setattr(h5py.Group, method, note)
    dataset = ClipDataset(shard_path, clip_length=4)
    next(iter(batches(dataset, 4, seed=0)))
    dataset.in_memory()[0]
    assert "frames" in opened
    assert not any("private" in str(name) for name in opened)
    dataset.private(0)
    assert "private" in opened


def test_a_shard_without_the_private_group_trains(shard_path: Path) -> None:
    with h5py.File(shard_path, "r+") as file:
        del file["private"]
    dataset = ClipDataset(shard_path, clip_length=4)
    assert next(iter(batches(dataset, 2, seed=0))).videos.shape == (2, 4, 64, 64, 3)
    with pytest.raises(ValueError, match="no real actions"):
        dataset.private(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumes_at_any_batch(shard_path: Path, workers: int) -> None:
    dataset = ClipDataset(shard_path, clip_length=4)
    full = list(batches(dataset, 3, seed=5, num_batches=10))
    assert len(full) == 10
    assert full[0].videos.shape == (3, 4, 64, 64, 3)
    assert full[0].videos.dtype == torch.uint8
    for first in (0, 4, 10):
        tail = list(batches(dataset, 3, seed=5, first_batch=first, num_batches=10 - first, workers=workers))
        assert len(tail) == 10 - first
        assert all(_same(one, two) for one, two in zip(tail, full[first:], strict=True))
    assert not _same(full[0], full[1])
    assert not _same(full[0], next(iter(batches(dataset, 3, seed=6))))


def test_endless_batches_can_be_closed(shard_path: Path) -> None:
    dataset = ClipDataset(shard_path, clip_length=4)
    stream = batches(dataset, 2, seed=0, workers=2)
    taken = list(itertools.islice(stream, 7))
    expected = list(batches(dataset, 2, seed=0, num_batches=7))
    assert all(_same(one, two) for one, two in zip(taken, expected, strict=True))
    stream.close()  # type: ignore[attr-defined]


def test_batches_hold_the_clips_of_their_numbers(shard_path: Path) -> None:
    dataset = ClipDataset(shard_path, clip_length=4)
    for videos, numbers in batches(dataset, 3, seed=0, num_batches=5):
        assert numbers.dtype == torch.int64
        for video, number in zip(videos, numbers.tolist(), strict=True):
            np.testing.assert_array_equal(video, dataset[number])


def test_the_fingerprint_follows_files_and_arguments(shard_path: Path) -> None:
    """It depends on file names, sizes, modification times and arguments, but not on the folder."""
    first = ClipDataset(shard_path, clip_length=4)
    assert ClipDataset(shard_path, clip_length=4).fingerprint == first.fingerprint == first.in_memory().fingerprint
    moved = shard_path.rename(shard_path.parent.parent / shard_path.name)
    assert ClipDataset(moved, clip_length=4).fingerprint == first.fingerprint
    others = [{"clip_length": 5}, {"frame_step": 2}, {"height": 32}, {"width": 32}]
    fingerprints = {ClipDataset(moved, **{"clip_length": 4, **other}).fingerprint for other in others}
    os.utime(moved, ns=(0, 1))
    fingerprints.add(ClipDataset(moved, clip_length=4).fingerprint)
    assert len(fingerprints - {first.fingerprint}) == 5


def test_errors_in_workers_reach_the_caller(shard_path: Path) -> None:
    dataset = ClipDataset(shard_path, clip_length=4)
    with h5py.File(shard_path, "r+") as file:
        del file["frames"]
    with pytest.raises((ValueError, KeyError)):
        list(batches(dataset, 2, seed=0, num_batches=3, workers=2))


def test_in_memory_is_the_same(shard_path: Path) -> None:
    dataset = ClipDataset(shard_path, clip_length=4, height=32, width=32)
    held = dataset.in_memory()
    shard_path.with_suffix(".gone").write_bytes(shard_path.read_bytes())
    for one, two in zip(batches(dataset, 4, 0, 0, 3), batches(held, 4, 0, 0, 3), strict=True):
        assert _same(one, two)
    assert len(held) == len(dataset)
    assert held.player(0) == "left"
    assert held.level(0) == 100
    np.testing.assert_array_equal(held.private(3)[0], dataset.private(3)[0])


def test_changing_a_clip_leaves_the_dataset_unchanged(shard_path: Path) -> None:
    held = ClipDataset(shard_path, clip_length=4).in_memory()
    before = held[0]
    held[0][:] = 0
    np.testing.assert_array_equal(held[0], before)


def test_other_processes_can_read_it(shard_path: Path) -> None:
    dataset = ClipDataset(shard_path, clip_length=4)
    first = dataset[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[0], first)
    loader = DataLoader(dataset, batch_size=8, num_workers=1)
    assert torch.equal(torch.cat(list(loader)), torch.stack([torch.from_numpy(clip) for clip in dataset]))


def test_videos_are_a_dataset(tmp_path: Path, make_recording: Make) -> None:
    frames = make_recording((12,)).frames // 85 * 85
    write_video(tmp_path / "a.mp4", frames)
    write_video(tmp_path / "b.gif", frames[:6])
    write_video(tmp_path / "c.mp4", frames[:2])
    dataset = ClipDataset(tmp_path, clip_length=4)
    assert len(dataset) == 9 + 3
    np.testing.assert_array_equal(dataset[8], frames[8:12])
    np.testing.assert_array_equal(dataset[9], frames[:4])
    assert ClipDataset(tmp_path, clip_length=4, height=16, width=24)[0].shape == (4, 16, 24, 3)
    for method in (dataset.private, dataset.player, dataset.level):
        with pytest.raises(ValueError, match=r"a.mp4 is a video"):
            method(0)


def test_subfolders_are_searched_and_hidden_files_are_no_data(tmp_path: Path) -> None:
    """macOS writes a file ._NAME beside each NAME on other disks; m4v files are videos."""
    frames = np.zeros((6, 16, 16, 3), np.uint8)
    for number, name in enumerate(("a.mp4", "b/c/x.gif", "b/y.mp4", "z.mp4", ".cache/a.mp4")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / name, frames + 20 * number)
    (tmp_path / "z.mp4").rename(tmp_path / "Z.M4V")
    for name in ("._a.mp4", "b/._x.gif", "b/.shard.h5", "notes.txt"):
        (tmp_path / name).write_bytes(b"no video")
    dataset = ClipDataset(tmp_path, clip_length=6, height=16, width=16)
    assert [int(dataset[index][0, 0, 0, 0]) for index in range(len(dataset))] == [60, 0, 20, 40]


def test_frames_stay_on_disk_and_files_closed(tmp_path: Path, make_recording: Make) -> None:
    """What a dataset holds grows with its episodes and chunks, and a corpus may have more files than can be open."""
    write_shard(tmp_path / "0.h5", make_recording((400, 100)), ["a", "b"])
    for number in range(1, 40):
        os.link(tmp_path / "0.h5", tmp_path / f"{number}.h5")
    dataset = ClipDataset(tmp_path, clip_length=16)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert len(dataset) == 40 * (385 + 85)
    assert _numbers(dataset[39 * 470 + 385]) == [number % 256 for number in range(400, 416)]
    for batch in batches(dataset, 32, seed=0, num_batches=8):
        assert batch.videos.shape[0] == 32
    held = [value for part in (dataset, *dataset._sources) for value in vars(part).values()]
    arrays = [value for value in held if isinstance(value, np.ndarray)]
    assert max(map(len, arrays)) <= 80
    assert not before or len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_read_their_rows_of_a_batch(shard_path: Path, workers: int) -> None:
    dataset = ClipDataset(shard_path, clip_length=4)
    for number, whole in enumerate(batches(dataset, 6, seed=1, num_batches=3)):
        for rank in range(2):
            rows = np.arange(rank, 6, 2)
            (part,) = batches(dataset, 6, 1, number, 1, workers, rows=rows)
            assert torch.equal(part.videos, whole.videos[rows])
            assert torch.equal(part.numbers, whole.numbers[rows])


def test_videos_that_do_not_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, np.zeros((6, 16, 16, 3), np.uint8))
    monkeypatch.setattr("genie_gym.data.sources._MOST_HELD", 6 * 16 * 16 * 3)
    assert len(ClipDataset(tmp_path / "a.mp4", clip_length=6, height=16, width=16)) == 1
    with pytest.raises(ValueError, match=r"use genie-gym convert: .*b.mp4"):
        ClipDataset(tmp_path, clip_length=6, height=16, width=16)


def test_frames_are_scaled(shard_path: Path) -> None:
    assert ClipDataset(shard_path, clip_length=4, height=16, width=32)[0].shape == (4, 16, 32, 3)


def test_a_recording_is_a_dataset(recorded: Path) -> None:
    dataset = ClipDataset(recorded)
    starts = [dataset._locate(index) for index in range(len(dataset))]
    for number, start in starts:
        assert not dataset._sources[number].episode_starts[start + 1 : start + 16].any()
    assert dataset.num_frames == 700
    assert dataset[0].shape == (16, 64, 64, 3)


@pytest.mark.parametrize("field", ["clip_length", "frame_step", "height", "width"])
def test_wrong_sizes_are_refused(shard_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be positive, got 0"):
        ClipDataset(shard_path, **{field: 0})


@pytest.mark.parametrize(
    ("field", "value"), [("batch_size", 0), ("seed", -1), ("first_batch", -1), ("num_batches", -1), ("workers", -1)]
)
def test_wrong_batches_are_refused(shard_path: Path, field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .* got {value}"):
        batches(ClipDataset(shard_path), **{"batch_size": 2, "seed": 0, field: value})


def test_wrong_paths_are_named(tmp_path: Path, shard_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "shard-00000.h5.tmp").write_text("cut off")
    (tmp_path / "text.h5").write_text("not a shard")
    (tmp_path / "text.mp4").write_text("not a video")
    for path in (folder, tmp_path / "absent", tmp_path / "text.h5", tmp_path / "text.mp4"):
        with pytest.raises(ValueError, match=path.name):
            ClipDataset(path)
    with pytest.raises(ValueError, match="at least one file"):
        ClipDataset([])
    with pytest.raises(ValueError, match=r"no clip of 41 frames .* longest episode has 40"):
        ClipDataset(shard_path, clip_length=41)
