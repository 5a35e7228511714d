"""Clips of recordings and videos, and the batches of them that training uses.

Batch ``k`` of a run depends on the seed and ``k`` alone, so a run can be resumed at any batch.
"""

import copy
import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from genie_gym.checks import require
from genie_gym.data.manifest import Chosen
from genie_gym.data.shards import RealActionSpace, Shard, mark_starts, read_action_space, require_discrete
from genie_gym.data.sources import Paths, Source, load_source, open_sources, read_ahead, read_parts, resize_all

HELD_BYTES = 1 << 28
"""Bytes of frames up to which training holds a dataset in memory."""
_SHOWN = 10
"""Number of files that an error names."""


class Batch(NamedTuple):
    """A batch of clips."""

    videos: Tensor
    """(B, T, H, W, C) uint8 as read from disk; (B, T, C, H, W) float in [0, 1] as passed to a model."""
    numbers: Tensor
    """(B,) int64: indices of the clips in the dataset."""


class ClipDataset(Dataset[np.ndarray]):
    """A map-style dataset of every clip of ``clip_length`` frames that lies within one episode.

    ``dataset[i]`` is (T, H, W, 3) uint8. Shards are read from disk clip by clip, so that memory depends on the number
    of episodes alone; a video file is one episode, decoded once into memory at the requested size (12 kB for a frame of
    64 x 64). ``data.convert`` turns videos into shards. A manifest of ``genie-gym curate`` stands for what it chose.

    Args:
        paths: One or more files or folders; the shards and videos of a folder and its subfolders, in order.
        clip_length: Number of frames in a clip, T.
        frame_step: Distance in frames between neighbours in a clip.
        height, width: Size in pixels; frames of another size are cropped and scaled.

    Attributes:
        fingerprint: Hash of the files' names, sizes and modification times and of the arguments.
            Datasets with equal fingerprints have the same clips.

    Raises:
        ValueError: If a file cannot be read, or no file has an episode that is long enough.
    """

    def __init__(
        self, paths: Paths, clip_length: int = 16, frame_step: int = 1, height: int = 64, width: int = 64
    ) -> None:
        self.clip_length, self.frame_step, self.height, self.width = clip_length, frame_step, height, width
        self._checked_sizes()
        self._files = open_sources(paths, height, width)
        self._sources: list[Source] = list(self._files)
        self._find_clips()

    def _checked_sizes(self) -> dict[str, int]:
        """Return the arguments that are numbers, after checking that all are positive."""
        sizes = {name: getattr(self, name) for name in ("clip_length", "frame_step", "height", "width")}
        for field, value in sizes.items():
            require(value > 0, field, value, "positive")
        return sizes

    def _find_clips(self) -> None:
        """Find the frames at which clips can start in each source, and compute the fingerprint."""
        paths = [file.path for file in self._files]
        stats: list[object] = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        stats += [chosen for file in self._files if (chosen := getattr(file, "stretches", None)) is not None]
        self.fingerprint = hashlib.sha256(repr((stats, self._checked_sizes())).encode()).hexdigest()
        lengths = [np.diff(source.episodes, append=source.num_frames) for source in self._sources]
        counts = [np.maximum(0, length - self._span + 1) for length in lengths]
        self._ends = np.cumsum(np.concatenate(counts))  # number of clips up to the end of each episode
        self._firsts = self._ends - np.concatenate(counts)
        self._starts = np.concatenate([source.episodes for source in self._sources])
        self._numbers = np.repeat(np.arange(len(self._sources)), [len(count) for count in counts])
        if not len(self._ends) or len(self) == 0:
            longest = max((int(length.max()) for length in lengths if len(length)), default=0)
            names = ", ".join(map(str, paths[:_SHOWN])) + (f" and {len(paths) - _SHOWN} more" if paths[_SHOWN:] else "")
            raise ValueError(f"no clip of {self._span} frames in {names}: the longest episode has {longest}")

    def __len__(self) -> int:
        """Return the number of clips."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        """Return clip ``index`` as a new array (T, H, W, 3) uint8."""
        number, start = self._locate(index)
        frames = self._sources[number].read(start, start + self._span)[:: self.frame_step]
        return resize_all(frames, self.height, self.width).copy()

    @property
    def contents(self) -> list[Chosen]:
        """The files in order, and the stretches that manifests chose of them."""
        return [Chosen(file.path, getattr(file, "stretches", None)) for file in self._files]

    @property
    def holds_videos(self) -> bool:
        """Whether any clip comes from a video, which has no actions, rewards, players and levels."""
        return not all(isinstance(file, Shard) and file.is_recording for file in self._files)

    @property
    def frame_sizes(self) -> set[tuple[int, int]]:
        """Heights and widths of the frames on disk, before scaling."""
        return {(int(file.frame_size[0]), int(file.frame_size[1])) for file in self._files}

    @property
    def num_frames(self) -> int:
        """Number of frames in all sources."""
        return sum(source.num_frames for source in self._sources)

    @property
    def num_bytes(self) -> int:
        """Number of bytes of all frames, scaled."""
        return 3 * self.height * self.width * self.num_frames

    def private(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the (T - 1,) int32 real actions and the (T - 1,) float32 rewards of clip ``index``, for metrics only.

        Each frame but the last has the action taken there and the reward received for it. With a ``frame_step`` of k,
        it has the first of k actions and the sum of k rewards. A reward that ends an episode, such as CoinRun's coin,
        is in no clip.

        Raises:
            ValueError: If the clip comes from a video or its shard holds no actions.
        """
        number, start = self._locate(index)
        actions, rewards = self._shard(number).private(start, start + self._span - 1)
        return actions[:: self.frame_step], rewards.reshape(self.clip_length - 1, self.frame_step).sum(-1)

    @property
    def real_action_space(self) -> RealActionSpace:
        """The integer actions that all recordings share, of which a world of real actions is made.

        Raises:
            ValueError: If a source is a video, its actions are vectors, or their number is unknown or differs.
        """
        shards = ((file, self._shard(number)) for number, file in enumerate(self._files))
        found = {file: read_action_space(file.path, shard.attributes) for file, shard in shards}
        first, *others = found.items()
        for file, space in others:
            if space != first[1]:
                raise ValueError(f"{file.path}: real actions must be those of {first[0].path}, got others")
        return first[1]

    def real_actions(self) -> np.ndarray:
        """Return the (num_frames,) int64 real actions of all sources in order, counted from 0; errors as of the space.

        For metrics, and for worlds that are asked to learn from them alone.
        """
        space = self.real_action_space
        parts = []
        for number, file in enumerate(self._files):
            actions, _ = self._shard(number).private(0, file.num_frames)
            places = require_discrete(file.path, actions).astype(np.int64) - space.first
            # The action of an episode's last frame leads to no frame of it, so it may be anything.
            ends = np.append(file.episodes[1:] - 1, file.num_frames - 1)
            inner = np.ones(file.num_frames, dtype=np.bool_)
            inner[ends] = False
            wrong = places[inner & ((places < 0) | (places >= space.number))]
            if wrong.size:
                rule = f"in [{space.first}, {space.first + space.number})"
                require(False, f"{file.path}: real actions", int(wrong[0]) + space.first, rule)
            parts.append(places)
        return np.concatenate(parts)

    def player(self, index: int) -> str:
        """Return the name of the player in clip ``index``; ``ValueError`` if the clip comes from a video."""
        number, start = self._locate(index)
        shard = self._shard(number)
        return shard.players[shard.player[start]]

    def attribute(self, index: int, name: str) -> str | int:
        """Return an attribute of the shard of clip ``index``: game, mode, seed, start_level or num_levels.

        Raises:
            ValueError: If the clip comes from a video, or its shard lacks the attribute.
        """
        shard = self._shard(self._locate(index)[0])
        if name not in shard.attributes:
            raise ValueError(f"{shard.path}: has no attribute {name!r}, only {sorted(shard.attributes)}")
        value = shard.attributes[name]
        return value if isinstance(value, str) else int(value)

    def attributes(self, index: int) -> dict[str, Any]:
        """Return all attributes of the shard of clip ``index``; ``ValueError`` if the clip comes from a video."""
        return self._shard(self._locate(index)[0]).attributes

    def level(self, index: int) -> int:
        """Return the level seed of clip ``index``; ``ValueError`` if the clip comes from a video."""
        number, start = self._locate(index)
        return int(self._shard(number).level_seeds[start])

    @property
    def episode_starts(self) -> np.ndarray:
        """(num_frames,) bool over all sources in order: True on the first frame of an episode."""
        return np.concatenate([mark_starts(source.episodes, source.num_frames) for source in self._sources])

    @property
    def first_frames(self) -> np.ndarray:
        """(len,) int64: index of each clip's first frame among the ``num_frames`` of all sources in order."""
        return self.find_frames(np.arange(len(self)))

    def find_frames(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices (n,) of the first frames of clips ``indices`` (n,) among those of all sources in order."""
        before = np.cumsum([0, *(source.num_frames for source in self._sources[:-1])])
        episodes = np.searchsorted(self._ends, indices, side="right")
        return before[self._numbers[episodes]] + self._starts[episodes] + indices - self._firsts[episodes]

    def read_all(self) -> Iterator[np.ndarray]:
        """Yield all frames of all sources in order, scaled, in parts (n, H, W, 3) uint8."""
        return read_parts(self._sources, self.height, self.width)

    def read_sources(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each source's scaled frames (F, H, W, 3) uint8 and episode starts (F,) bool."""
        for source in self._sources:
            yield load_source(source, self.height, self.width).frames, mark_starts(source.episodes, source.num_frames)

    def cut(self, clip_length: int) -> "ClipDataset":
        """Return a dataset of the same frames in clips of another length; ``ValueError`` if no episode is that long."""
        if clip_length == self.clip_length:
            return self
        other = copy.copy(self)
        other.clip_length = clip_length
        other._find_clips()
        return other

    def in_memory(self) -> "ClipDataset":
        """Return a copy of the dataset that holds all frames in memory, scaled, for fast access to clips."""
        held = copy.copy(self)
        held._sources = [load_source(source, self.height, self.width) for source in self._sources]
        return held

    @property
    def _span(self) -> int:
        """The number of frames from the first to the last of a clip."""
        return (self.clip_length - 1) * self.frame_step + 1

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the number of the source of clip ``index`` and the clip's first frame in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip must be in [0, {len(self)}), got {index}")
        episode = int(np.searchsorted(self._ends, index, side="right"))
        return int(self._numbers[episode]), int(self._starts[episode] + index - self._firsts[episode])

    def _shard(self, number: int) -> Shard:
        file = self._files[number]
        if not isinstance(file, Shard) or not file.is_recording:
            raise ValueError(f"{file.path} is a video: it has no players, levels, real actions and rewards")
        return file


def batches(  # noqa: PLR0913  # each of them decides about the batches
    dataset: ClipDataset,
    batch_size: int,
    seed: int,
    first_batch: int = 0,
    num_batches: int | None = None,
    workers: int = 0,
    clips: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Return an iterator over batches of clips (B, T, H, W, 3) uint8, drawn with replacement.

    Args:
        dataset: Dataset to draw from.
        batch_size: Number of clips in a batch, B.
        seed: Seed of the draws. A batch's clips depend only on it and on the batch's number.
        first_batch: Number of the first batch to yield.
        num_batches: Number of batches to yield, or ``None`` for an endless iterator.
        workers: Threads that read ahead; decompressing shards releases the GIL, so they run in parallel.
        clips: Indices of the clips to draw from, or ``None`` for all clips.
        rows: Rows of each batch to read, or ``None`` for all; each process of several reads its own.

    Raises:
        ValueError: If an argument is negative, or ``batch_size`` is 0.
    """
    among = len(dataset) if clips is None else clips
    given = {"seed": seed, "first_batch": first_batch, "num_batches": num_batches or 0, "workers": workers}
    for field, value in given.items():
        require(value >= 0, field, value, "0 or more")
    require(batch_size > 0, "batch_size", batch_size, "positive")

    def read(number: int) -> Batch:
        drawn = draw_numbers(among, batch_size, seed, number)
        drawn = drawn if rows is None else drawn[rows]
        return Batch(torch.from_numpy(np.stack([dataset[int(n)] for n in drawn])), torch.from_numpy(drawn))

    numbers = itertools.islice(itertools.count(first_batch), num_batches)
    return map(read, numbers) if workers == 0 else read_ahead(read, numbers, workers)


def draw_numbers(among: np.ndarray | int, batch_size: int, seed: int, number: int) -> np.ndarray:
    """Draw the clips of batch ``number`` of a run: (batch_size,) with replacement, of an array or of range(among)."""
    count = among if isinstance(among, int) else len(among)
    drawn = np.random.default_rng([seed, number]).integers(count, size=batch_size)
    return drawn if isinstance(among, int) else among[drawn]
