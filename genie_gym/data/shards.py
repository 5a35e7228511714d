"""Lossless HDF5 shards of frames, recorded from games or converted from videos.

A recorded shard holds trajectories in order; a trajectory is an unbroken run of frames of one game:

    frames          (F, H, W, 3) uint8, gzip, chunks of 16 frames
    episode_starts  (F,) bool      True on the first frame of an episode and of a trajectory
    level_seeds     (F,) int64     the level a frame belongs to
    player          (F,) uint8     index into the attribute ``players``
    private/real_actions  (F,) int32    the action taken at frame t, leading to t + 1; (F, D) int32 or float32 for
                                        environments whose actions are vectors
    private/rewards       (F,) float32  received for that action

Training never opens the group ``private``: a world has to discover its actions from frames alone, unless ``--actions
real`` asks for another one to compare with (``training.real_actions``). A shard of converted videos, each an episode,
holds ``frames`` and ``episode_starts`` alone, and ``videos`` and ``outcomes``, the facts about its files as JSON
(``data.video_shards``). Only ``frames`` lies in chunks, and texts have a fixed length.
"""

import functools
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from genie_gym.checks import is_integer, require
from genie_gym.data.frames import check_frames
from genie_gym.data.hdf5 import name_faults, open_foreign, open_whole, read_attributes, take_dataset, take_group
from genie_gym.data.procgen import ACTION_NAMES, NUM_REAL_ACTIONS
from genie_gym.data.shard_file import create_hdf5, write_attributes

SHARD_SUFFIX = ".h5"
_FORMAT = "genie-gym shard"
VIDEO_FORMAT = "genie-gym video shard"
"""Attribute ``format`` of shards of converted videos."""
SHARD_VERSION = 2
_READ_VERSIONS = (1, 2)
"""In version 1, texts have no fixed length."""
CHUNK_FRAMES = 16
_MAX_PIXELS = 1 << 23
"""Largest number of pixels of a frame: a chunk of 16 takes 400 MB."""
_FIELDS = {"episode_starts": np.bool_, "level_seeds": np.int64, "player": np.uint8}
_PRIVATE_FIELDS = {"real_actions": np.int32, "rewards": np.float32}


_MOST_ACTIONS = 1 << 16
"""Largest number of a recording's actions."""


class Recording(NamedTuple):
    """The arrays of a shard, with the shapes and types that the module's docstring lists."""

    frames: np.ndarray
    episode_starts: np.ndarray
    level_seeds: np.ndarray
    player: np.ndarray
    real_actions: np.ndarray
    rewards: np.ndarray

    @classmethod
    def allocate(
        cls,
        shape: tuple[int, ...],
        height: int,
        width: int,
        action: tuple[tuple[int, ...], type[np.generic]] = ((), np.int32),
    ) -> "Recording":
        """Return empty arrays for ``shape`` frames of (height, width) pixels, and actions of a shape and type."""
        arrays = {field: np.empty(shape, dtype) for field, dtype in {**_FIELDS, **_PRIVATE_FIELDS}.items()}
        arrays["real_actions"] = np.empty((*shape, *action[0]), action[1])
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
    with create_hdf5(path) as (file, _):
        own: dict[str, str | int] = {"format": _FORMAT, "version": SHARD_VERSION, "players": json.dumps(list(players))}
        write_attributes(file, {**(attributes or {}), **own})
        _write_arrays(file, recording)


def _write_arrays(file: h5py.File, recording: Recording) -> None:
    size = recording.frames.shape[1:]
    layout = {"chunks": (CHUNK_FRAMES, *size), "maxshape": (None, *size)}  # chunks beyond F need an F that can grow
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
    for field in (*_FIELDS, *_PRIVATE_FIELDS):
        _check_field(field, getattr(recording, field), shape)
    if not recording.episode_starts[0]:
        raise ValueError("episode_starts[0] must be True, got False")
    if recording.player.max() >= len(players):
        raise ValueError(f"player must be below the number of players {len(players)}, got {recording.player.max()}")


class Shard:
    """A shard opened for reading, which reads from its file what is asked for and keeps no frames.

    Attributes:
        path: Path of the file.
        attributes: Attributes given to ``write_shard``: game, mode, seed, ...
        is_recording: Whether it is recorded from a game; shards of videos have no players, levels and actions.
        num_frames, height, width: F, H and W in the format above.
        episodes: (E,) int64, the first frames of the episodes.
        players: Names that ``player`` indexes.

    Raises:
        ValueError: If the file is not a complete shard of a known version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: tuple[int, h5py.File] | None = None
        with open_foreign(self.path) as file:
            self.attributes: dict[str, Any] = read_attributes(file)
            self.is_recording = self.attributes.get("format") != VIDEO_FORMAT
            arrays = self._check(file)
            self.players = self._read_players() if self.is_recording else []
            self.num_frames, self.height, self.width = arrays["frames"].shape[:3]
            self.episodes = np.flatnonzero(arrays["episode_starts"][:])
        if self.num_frames and (not len(self.episodes) or self.episodes[0] != 0):
            raise ValueError(f"{self.path}: episode_starts[0] must be True, got False")

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.height, self.width

    @property
    def episode_starts(self) -> np.ndarray:
        """(F,) bool: True on the first frame of an episode."""
        return mark_starts(self.episodes, self.num_frames)

    @functools.cached_property
    def level_seeds(self) -> np.ndarray:
        """(F,) int64: the level of each frame of a recording."""
        return self._read_whole("level_seeds")

    @functools.cached_property
    def player(self) -> np.ndarray:
        """(F,) uint8: the number of each frame's player in ``players``, in a recording."""
        numbers = self._read_whole("player")
        if numbers.max(initial=0) >= len(self.players):
            raise ValueError(f"{self.path}: player must be below {len(self.players)}, got {numbers.max()}")
        return numbers

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames ``start`` to ``stop`` (excluded): (stop - start, H, W, 3) uint8.

        Chunks are read and decompressed here and not by h5py, whose global lock would block all other threads
        meanwhile, and which would keep every file of a large corpus open.

        Raises:
            ValueError: If the range is not in the shard or its data are corrupt.
        """
        if not 0 <= start < stop <= self.num_frames:
            raise ValueError(f"{self.path}: frames {start}..{stop} are not in [0, {self.num_frames})")
        first, last = start // CHUNK_FRAMES, (stop - 1) // CHUNK_FRAMES
        places = self._places
        try:
            with self.path.open("rb", buffering=0) as file:
                chunks = [self._read_chunk(file, index, *places[index]) for index in range(first, last + 1)]
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be read ({error})") from error
        frames = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return frames[start - first * CHUNK_FRAMES : stop - first * CHUNK_FRAMES]

    def private(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return real actions and rewards (n,) float32 of frames [start, stop), for metrics only.

        Real actions are (n,) int32, or (n, D) int32 or float32 if they are vectors.

        Raises:
            ValueError: If the shard holds none.
        """
        with name_faults(self.path):
            group = take_group(self._file(), "private")
            if group is None:
                raise ValueError(f"{self.path}: holds no real actions and rewards")
            fields: dict[str, Any] = {field: take_dataset(group, field) for field in _PRIVATE_FIELDS}
            for field, array in fields.items():
                _check_field(field, array, (self.num_frames,), f"{self.path}: ")
            return fields["real_actions"][start:stop], fields["rewards"][start:stop]

    @functools.cached_property
    def _places(self) -> np.ndarray:
        """(chunks, 3) int64: the offset of each chunk in the file, its bytes, and whether it is left uncompressed."""
        places = np.zeros((-(-self.num_frames // CHUNK_FRAMES), 3), dtype=np.int64)

        def note(chunk: Any) -> None:
            if chunk.chunk_offset[0] < self.num_frames:
                places[chunk.chunk_offset[0] // CHUNK_FRAMES] = chunk.byte_offset, chunk.size, chunk.filter_mask

        with open_foreign(self.path) as file:
            file["frames"].id.chunk_iter(note)
        return places

    def _read_chunk(self, file: Any, index: int, offset: int, packed_size: int, mask: int) -> np.ndarray:
        size = CHUNK_FRAMES * self.height * self.width * 3
        try:
            file.seek(offset)
            packed = file.read(min(packed_size, 2 * size))
            # HDF5 leaves a chunk uncompressed, and sets its mask, where gzip would not make it smaller.
            pixels = packed if mask else _unpack(packed, size)
            return np.frombuffer(pixels, dtype=np.uint8).reshape(CHUNK_FRAMES, self.height, self.width, 3)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{self.path}: frames from {index * CHUNK_FRAMES} on are corrupt ({error})") from error

    def _file(self) -> h5py.File:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_whole(self.path)
        return self._opened[1]

    def _read_whole(self, field: str) -> np.ndarray:
        """Return an array of a number for each frame, which was checked when the shard was opened."""
        with name_faults(self.path):
            return self._file()[field][:]

    def _read_players(self) -> list[str]:
        players = json.loads(self.attributes["players"])
        if not isinstance(players, list) or not all(isinstance(player, str) for player in players):
            raise ValueError(f"{self.path}: players must be a list of names, got {players!r:.100}")
        return players

    def _check(self, file: h5py.File) -> dict[str, h5py.Dataset]:
        """Return the datasets that every shard holds, after checking that they are as the module's docstring says."""
        if self.attributes.get("format") not in (_FORMAT, VIDEO_FORMAT):
            raise ValueError(f"{self.path}: not a shard of genie-gym")
        if (version := self.attributes.get("version")) not in _READ_VERSIONS:
            known = " or ".join(map(str, _READ_VERSIONS))
            raise ValueError(f"{self.path}: shard version must be {known}, got {version}")
        frames = take_dataset(file, "frames", in_chunks=True)
        if frames is None or frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"{self.path}: frames must be (F, H, W, 3) uint8, got {frames}")
        if frames.shape[1] * frames.shape[2] > _MAX_PIXELS:
            raise ValueError(f"{self.path}: frames must have up to {_MAX_PIXELS} pixels, got {frames.shape[1:3]}")
        if frames.chunks != (CHUNK_FRAMES, *frames.shape[1:]) or frames.compression != "gzip" or frames.shuffle:
            raise ValueError(f"{self.path}: frames must lie in gzip chunks of {CHUNK_FRAMES}, got {frames.chunks}")
        if self.is_recording and "players" not in self.attributes:
            raise ValueError(f"{self.path}: names no players")
        arrays = {"frames": frames}
        for field in _FIELDS if self.is_recording else ("episode_starts",):
            arrays[field] = take_dataset(file, field)
            _check_array(f"{self.path}: {field}", arrays[field], (frames.shape[0],), _FIELDS[field])
        return arrays

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def describe_origin(shard: Shard) -> str:
    """Return what a shard is part of: a recording with its settings, frames of ``FrameWriter``, or converted videos."""
    if not shard.is_recording:
        return "converted videos"
    recording = shard.attributes.get("recording")
    return "a recording by FrameWriter or in a window" if recording is None else f"another recording: {recording}"


class RealActionSpace(NamedTuple):
    """The integer actions of a recorded game."""

    number: int
    """Number of actions."""
    first: int
    """The first one, as the game counts them."""
    names: tuple[str, ...]
    """Name of each; empty if they have none, or some are alike."""


def read_action_space(where: object, attributes: Mapping[str, Any]) -> RealActionSpace:
    """Return the actions that a recorded shard's attributes tell; ``ValueError`` naming ``where`` if they do not."""
    if "game" in attributes:
        return RealActionSpace(NUM_REAL_ACTIONS, 0, ACTION_NAMES)
    number, first = (attributes.get(name) for name in ("num_actions", "first_action"))
    rule = "told by the recording, as genie-gym record does for games of integer actions"
    require(is_integer(number, 1, _MOST_ACTIONS + 1), f"{where}: num_actions", number, rule)
    require(is_integer(first, -(2**31), 2**31), f"{where}: first_action", first, rule)
    try:
        names = json.loads(attributes.get("action_names", "[]"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: action_names are damaged ({error})") from error
    fits = isinstance(names, list) and all(isinstance(name, str) and name and name.isprintable() for name in names)
    known = fits and len(set(names)) == len(names) == number
    return RealActionSpace(int(number or 0), int(first or 0), tuple(names) if known else ())


def require_discrete(where: object, real_actions: np.ndarray) -> np.ndarray:
    """Return real actions (n,) as they are; ``ValueError`` if they are vectors, which no metric compares."""
    if real_actions.ndim != 1 or not np.issubdtype(real_actions.dtype, np.integer):
        got = f"{real_actions.dtype} vectors of {real_actions.shape[-1]}"
        raise ValueError(
            f"{where}: real actions must be one integer a frame to be compared with latent ones, got {got}"
        )
    return real_actions


def mark_starts(episodes: np.ndarray, num_frames: int) -> np.ndarray:
    """Return (num_frames,) bool that is True on the first frame of each of the episodes (E,)."""
    starts = np.zeros(num_frames, dtype=np.bool_)
    starts[episodes] = True
    return starts


def _unpack(packed: bytes, size: int) -> bytes:
    """Return the ``size`` bytes of a gzip block; ``ValueError`` if it holds fewer or more; no more are unpacked."""
    unpacker = zlib.decompressobj()
    pixels = unpacker.decompress(packed, size)
    if len(pixels) != size or unpacker.decompress(unpacker.unconsumed_tail, 1) or not unpacker.eof:
        raise ValueError(f"a block must hold {size} bytes, got others")
    return pixels


def _check_field(field: str, array: np.ndarray | h5py.Dataset | None, shape: tuple[int, ...], where: str = "") -> None:
    """Check the type and shape of a recorded array; actions may be vectors."""
    dtype = {**_FIELDS, **_PRIVATE_FIELDS}[field]
    if field == "real_actions" and array is not None and array.ndim == len(shape) + 1:
        shape, dtype = (*shape, array.shape[-1]), np.float32 if array.dtype == np.float32 else dtype
    _check_array(f"{where}{field}", array, shape, dtype)


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
    with open_whole(source) as old, create_hdf5(target) as (new, _):
        write_attributes(new, {**read_attributes(old), "version": SHARD_VERSION})
        for field in ("frames", *_FIELDS):
            old.copy(old[field], new, without_attrs=True)
