"""Tests that shards are lossless and damaged ones raise errors that name the file."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from genie_gym.data import shards
from genie_gym.data.shards import Recording, Shard, write_shard

Make = Callable[..., Recording]


def test_a_shard_is_lossless(shard_path: Path, make_recording: Make) -> None:
    recording, shard = make_recording(), Shard(shard_path)
    assert (shard.num_frames, shard.height, shard.width) == (65, 64, 64)
    assert shard.players == ["left", "right"]
    assert shard.attributes["game"] == "coinrun"
    np.testing.assert_array_equal(shard.read(0, 65), recording.frames)
    for field in ("episode_starts", "level_seeds", "player"):
        np.testing.assert_array_equal(getattr(shard, field), getattr(recording, field))
    actions, rewards = shard.private(10, 30)
    np.testing.assert_array_equal(actions, recording.real_actions[10:30])
    np.testing.assert_array_equal(rewards, recording.rewards[10:30])


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 16), (15, 17), (16, 32), (3, 60), (64, 65)])
def test_any_range_can_be_read(shard_path: Path, make_recording: Make, start: int, stop: int) -> None:
    np.testing.assert_array_equal(Shard(shard_path).read(start, stop), make_recording().frames[start:stop])


def test_plain_frames_are_compressed_and_h5py_reads_them(tmp_path: Path, make_recording: Make) -> None:
    path, recording = tmp_path / "a.h5", make_recording()
    recording = recording._replace(frames=recording.frames // 128 * 128)
    write_shard(path, recording, ["a", "b"])
    assert path.stat().st_size < recording.frames.nbytes / 4
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["frames"][:], Shard(path).read(0, 65))


@pytest.mark.parametrize(("start", "stop"), [(-1, 4), (60, 66), (5, 5)])
def test_ranges_outside_are_refused(shard_path: Path, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="are not in"):
        Shard(shard_path).read(start, stop)


def test_a_shard_can_be_pickled_after_use(shard_path: Path) -> None:
    shard = Shard(shard_path)
    first = shard.read(0, 4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shard)).read(0, 4), first)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", np.zeros((65, 64, 64, 3), np.float32)),
        ("frames", np.zeros((0, 64, 64, 3), np.uint8)),
        ("rewards", np.zeros(64, np.float32)),
        ("real_actions", np.zeros(65, np.int64)),
        ("episode_starts", np.zeros(65, np.bool_)),
        ("player", np.full(65, 2, np.uint8)),
    ],
)
def test_wrong_recordings_are_refused(tmp_path: Path, make_recording: Make, field: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=field):
        write_shard(tmp_path / "a.h5", make_recording()._replace(**{field: value}), ["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_no_file(
    tmp_path: Path, make_recording: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: h5py.File, recording: Recording) -> None:
        file.create_dataset("frames", data=recording.frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_write_arrays", fail)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.h5", make_recording(), ["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_shard(
    shard_path: Path, make_recording: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shard_path.read_bytes()
    monkeypatch.setattr(shards, "_write_arrays", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_shard(shard_path, make_recording((3,)), ["a"])
    assert shard_path.read_bytes() == before


@pytest.mark.parametrize("kept", [0, 100, 5000, -1])
def test_truncated_files_are_named(shard_path: Path, kept: int) -> None:
    shard_path.write_bytes(shard_path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"shard-00000.h5: not a whole HDF5 file"):
        Shard(shard_path)


def test_other_files_are_named(tmp_path: Path) -> None:
    text, other = tmp_path / "text.h5", tmp_path / "other.h5"
    text.write_text("not a shard")
    with h5py.File(other, "w") as file:
        file["frames"] = np.zeros(3)
    for path in (text, other, tmp_path / "absent.h5"):
        with pytest.raises(ValueError, match=path.name):
            Shard(path)


def _delete(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def _set_version(file: h5py.File) -> None:
    file.attrs["version"] = 99


def _shorten(file: h5py.File) -> None:
    del file["level_seeds"]
    file["level_seeds"] = np.zeros(3, np.int64)


def _unpack(file: h5py.File) -> None:
    frames = file["frames"][:]
    del file["frames"]
    file["frames"] = frames


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_delete("frames"), "frames must be"),
        (_delete("player"), "player is missing"),
        (lambda file: file.attrs.__delitem__("players"), "names no players"),
        (_set_version, "version must be 1 or 2, got 99"),
        (_shorten, "level_seeds must be"),
        (_unpack, "gzip chunks"),
    ],
)
def test_incomplete_shards_are_named(shard_path: Path, spoil: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(shard_path, "r+") as file:
        spoil(file)
    with pytest.raises(ValueError, match=rf"shard-00000.h5: .*{message}"):
        Shard(shard_path)


def test_corrupt_pixels_are_named(tmp_path: Path, make_recording: Make) -> None:
    path, recording = tmp_path / "a.h5", make_recording()
    write_shard(path, recording._replace(frames=recording.frames // 128), ["a", "b"])
    with h5py.File(path) as file:
        chunk = file["frames"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)
    shard = Shard(path)
    shard.read(0, 16)
    with pytest.raises(ValueError, match=r"a.h5: frames from 16 on are corrupt"):
        shard.read(10, 20)


def test_a_shard_without_the_private_group_has_no_actions(shard_path: Path) -> None:
    with h5py.File(shard_path, "r+") as file:
        del file["private"]
    shard = Shard(shard_path)
    assert shard.read(0, 4).shape == (4, 64, 64, 3)
    with pytest.raises(ValueError, match="no real actions"):
        shard.private(0, 4)
