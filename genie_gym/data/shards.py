"""Lossless HDF5 shards of recorded frames.

A shard holds trajectories in order; a trajectory is an unbroken run of frames of one game:

    frames          (F, H, W, 3) uint8, gzip, chunks of 16 frames
    episode_starts  (F,) bool      True on the first frame of an episode and of a trajectory
    level_seeds     (F,) int64     the level a frame belongs to
    player          (F,) uint8     index into the attribute ``players``
    private/real_actions  (F,) int32    the action taken at frame t, leading to t + 1
    private/rewards       (F,) float32  received for that action

Training never opens the group ``private``: a world has to discover its actions from frames alone.
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from genie_gym.data.frames import check_frames
from genie_gym.system import replace_file

SHARD_SUFFIX = ".h5"
_FORMAT = "genie-gym shard"
_VERSION = 1
_CHUNK_FRAMES = 16
_FIELDS = {"episode_starts": np.bool_, "level_seeds": np.int64, "player": np.uint8}
_PRIVATE_FIELDS = {"real_actions": np.int32, "rewards": np.float32}


class Recording(NamedTuple):
    """The arrays of a shard, with the shapes and types that the module's docstring lists."""

    frames: np.ndarray
    episode_starts: np.ndarray
    level_seeds: np.ndarray
    player: np.ndarray
    real_actions: np.ndarray
    rewards: np.ndarray

    @classmethod
    def allocate(cls, shape: tuple[int, ...], height: int, width: int) -> "Recording":
        """Return uninitialised arrays for ``shape`` frames of (height, width) pixels."""
        arrays = {field: np.empty(shape, dtype) for field, dtype in {**_FIELDS, **_PRIVATE_FIELDS}.items()}
        return cls(frames=np.empty((*shape, height, width, 3), dtype=np.uint8), **arrays)


def write_shard(
    path: Path, recording: Recording, players: Sequence[str], attributes: Mapping[str, str | int] | None = None
) -> None:
    """Write a shard atomically: an existing file is replaced whole or stays as it was.

    Args:
        path: File to write; an existing one is replaced.
        recording: Arrays to store.
        players: Names that ``recording.player`` indexes.
        attributes: Further attributes: game, mode, seed, level range and the like.

    Raises:
        ValueError: If the arrays' shapes or types do not fit the format or each other.
    """
    _check_recording(recording, players)
    with replace_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({**(attributes or {}), "format": _FORMAT, "version": _VERSION})
        file.attrs["players"] = json.dumps(list(players))
        _write_arrays(file, recording)


def _write_arrays(file: h5py.File, recording: Recording) -> None:
    size = recording.frames.shape[1:]
    layout = {"chunks": (_CHUNK_FRAMES, *size), "maxshape": (None, *size)}  # chunks beyond F need an F that can grow
    file.create_dataset("frames", data=recording.frames, compression="gzip", compression_opts=1, **layout)
    private = file.create_group("private")
    for field, array in recording._asdict().items():
        if field != "frames":
            (private if field in _PRIVATE_FIELDS else file).create_dataset(field, data=array)


def _check_recording(recording: Recording, players: Sequence[str]) -> None:
    check_frames("frames", recording.frames, ndim=4)
    shape = (len(recording.frames),)
    if shape == (0,):
        raise ValueError("frames must be at least one, got none")
    for field, dtype in {**_FIELDS, **_PRIVATE_FIELDS}.items():
        _check_array(field, getattr(recording, field), shape, dtype)
    if not recording.episode_starts[0]:
        raise ValueError("episode_starts[0] must be True, got False")
    if recording.player.max() >= len(players):
        raise ValueError(f"player must be below the number of players {len(players)}, got {recording.player.max()}")


class Shard:
    """A shard opened for reading. Every process that reads it opens the file for itself.

    Attributes:
        path: Path of the file.
        attributes: Attributes given to ``write_shard``: game, mode, seed, ...
        num_frames, height, width: F, H and W in the format above.
        episode_starts, level_seeds, player: (F,) bool, int64 and uint8; ``player`` indexes the names ``players``.

    Raises:
        ValueError: If the file is not a complete shard of a known version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: tuple[int, h5py.File] | None = None
        with _open(self.path) as file:
            self.attributes: dict[str, Any] = dict(file.attrs)
            self._check(file)
            self.players: list[str] = json.loads(self.attributes["players"])
            self.num_frames, self.height, self.width = file["frames"].shape[:3]
            self.episode_starts, self.level_seeds, self.player = (file[field][:] for field in _FIELDS)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.height, self.width

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames ``start`` to ``stop`` (excluded): (stop - start, H, W, 3) uint8.

        Chunks are decompressed here and not by h5py, whose global lock would block all other threads meanwhile.

        Raises:
            ValueError: If the range is not in the shard or its data are corrupt.
        """
        if not 0 <= start < stop <= self.num_frames:
            raise ValueError(f"{self.path}: frames {start}..{stop} are not in [0, {self.num_frames})")
        first, last = start // _CHUNK_FRAMES, (stop - 1) // _CHUNK_FRAMES
        chunks = [self._chunk(index * _CHUNK_FRAMES) for index in range(first, last + 1)]
        frames = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return frames[start - first * _CHUNK_FRAMES : stop - first * _CHUNK_FRAMES]

    def private(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return real actions (n,) int32 and rewards (n,) float32 of frames [start, stop), for metrics only.

        Raises:
            ValueError: If the shard holds none.
        """
        group = self._file().get("private")
        if group is None:
            raise ValueError(f"{self.path}: holds no real actions and rewards")
        for field, dtype in _PRIVATE_FIELDS.items():
            _check_array(f"{self.path}: {field}", group.get(field), (self.num_frames,), dtype)
        return group["real_actions"][start:stop], group["rewards"][start:stop]

    def _chunk(self, offset: int) -> np.ndarray:
        size = _CHUNK_FRAMES * self.height * self.width * 3
        try:
            mask, packed = self._file()["frames"].id.read_direct_chunk((offset, 0, 0, 0))
            # HDF5 leaves a chunk uncompressed, and sets its mask, where gzip would not make it smaller.
            pixels = packed if mask else zlib.decompress(packed, bufsize=size)
            return np.frombuffer(pixels, dtype=np.uint8).reshape(_CHUNK_FRAMES, self.height, self.width, 3)
        except (OSError, RuntimeError, ValueError, zlib.error) as error:
            raise ValueError(f"{self.path}: frames from {offset} on are corrupt ({error})") from error

    def _file(self) -> h5py.File:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _open(self.path)
        return self._opened[1]

    def _check(self, file: h5py.File) -> None:
        if self.attributes.get("format") != _FORMAT:
            raise ValueError(f"{self.path}: not a shard of genie-gym")
        if self.attributes.get("version") != _VERSION:
            raise ValueError(f"{self.path}: shard version must be {_VERSION}, got {self.attributes.get('version')}")
        frames = file.get("frames")
        if frames is None or frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"{self.path}: frames must be (F, H, W, 3) uint8, got {frames}")
        if frames.chunks != (_CHUNK_FRAMES, *frames.shape[1:]) or frames.compression != "gzip" or frames.shuffle:
            raise ValueError(f"{self.path}: frames must lie in gzip chunks of {_CHUNK_FRAMES}, got {frames.chunks}")
        if "players" not in self.attributes:
            raise ValueError(f"{self.path}: names no players")
        for field, dtype in _FIELDS.items():
            _check_array(f"{self.path}: {field}", file.get(field), (frames.shape[0],), dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a whole HDF5 file ({error})") from error


def _check_array(field: str, array: np.ndarray | h5py.Dataset | None, shape: tuple[int, ...], dtype: Any) -> None:
    if array is None:
        raise ValueError(f"{field} is missing")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{field} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}")


def copy_frames(source: Path, target: Path) -> None:
    """Copy a shard without its group ``private``, so that the copy holds neither real actions nor rewards.

    Raises:
        ValueError: If the source is not a complete shard.
    """
    Shard(source)  # checks it
    with _open(source) as old, replace_file(target) as temporary, h5py.File(temporary, "w") as new:
        new.attrs.update(old.attrs)
        for field in ("frames", *_FIELDS):
            old.copy(old[field], new)
