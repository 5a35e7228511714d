"""Clips drawn from recordings and videos, and the batches that training takes.

Batch ``k`` of a run depends on the seed and ``k`` alone, so a run can go on at any batch.
"""

import copy
import functools
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from genie_gym.data.frames import resize
from genie_gym.data.shards import Shard
from genie_gym.data.video import VIDEO_SUFFIXES, iterate_video

Read = TypeVar("Read")
SHARD_SUFFIX = ".h5"
READ_FRAMES = 1024
"""At once, where all are read."""
READERS = 16
"""Threads that unpack them, at most."""


class Source(Protocol):
    """Frames one after the other, in episodes."""

    path: Path
    num_frames: int
    episode_starts: np.ndarray

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames ``start`` to ``stop`` (excluded): (n, H, W, 3) uint8."""


class MemorySource:
    """Frames held in memory.

    Attributes:
        path: Where they came from.
        frames: (F, H, W, 3) uint8.
        num_frames: F.
        episode_starts: (F,) bool.
        frame_size: Height and width as they lie on disk.
    """

    def __init__(
        self,
        path: Path,
        frames: np.ndarray,
        episode_starts: np.ndarray | None = None,
        frame_size: tuple[int, ...] | None = None,
    ) -> None:
        self.path, self.frames, self.num_frames = path, frames, len(frames)
        self.frame_size = frames.shape[1:3] if frame_size is None else frame_size
        self.episode_starts = np.arange(len(frames)) == 0 if episode_starts is None else episode_starts

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames ``start`` to ``stop`` (excluded), a view."""
        return self.frames[start:stop]


class Batch(NamedTuple):
    """Clips drawn together."""

    videos: Tensor
    """(B, T, H, W, C) uint8 as read; (B, T, C, H, W) float in [0, 1] as trained on."""
    numbers: Tensor
    """(B,) int64: which of the dataset's clips they are."""


class ClipDataset(Dataset[np.ndarray]):
    """Every clip of ``clip_length`` frames within an episode, as a map-style dataset.

    ``dataset[i]`` is (T, H, W, 3) uint8. Shards are read from disk clip by clip; a video file is one
    episode, decoded once into memory at the size asked for (12 kB a frame of 64 x 64).

    Args:
        paths: A folder, a file, or several of them; folders give their shards and videos by name.
        clip_length: Frames a clip, T.
        frame_step: Every how many frames one is taken.
        height: Frames of another size are cropped and scaled to this.
        width: See ``height``.

    Attributes:
        fingerprint: The same as long as clips of one number are: of the files' names, sizes and times of change,
            and the arguments.

    Raises:
        ValueError: If a file cannot be read, or there is no clip in all of them.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        clip_length: int = 16,
        frame_step: int = 1,
        height: int = 64,
        width: int = 64,
    ) -> None:
        self.clip_length, self.frame_step, self.height, self.width = clip_length, frame_step, height, width
        self._require_sizes()
        self._files = _open_all(paths, height, width)
        self._sources: list[Source] = list(self._files)
        self._count_clips()

    def _require_sizes(self) -> dict[str, int]:
        sizes = {name: getattr(self, name) for name in ("clip_length", "frame_step", "height", "width")}
        for field, value in sizes.items():
            if value < 1:
                raise ValueError(f"{field} must be positive, got {value}")
        return sizes

    def _count_clips(self) -> None:
        paths = [file.path for file in self._files]
        self.fingerprint = _fingerprint(paths, self._require_sizes())
        self._starts = [_clip_starts(source.episode_starts, self._span) for source in self._sources]
        self._ends = np.cumsum([len(starts) for starts in self._starts])
        if len(self) == 0:
            longest = max(_longest_episode(source.episode_starts) for source in self._sources)
            where = ", ".join(str(path) for path in paths)
            raise ValueError(f"no clip of {self._span} frames in {where}: the longest episode has {longest}")

    def __len__(self) -> int:
        """Number of frames at which a clip can start."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        """Clip ``index``: (T, H, W, 3) uint8, the caller's own."""
        number, start = self._locate(index)
        frames = self._sources[number].read(start, start + self._span)[:: self.frame_step]
        return _resize_all(frames, self.height, self.width).copy()

    @property
    def holds_videos(self) -> bool:
        """Whether any clip comes from a video, which tells nothing but its frames."""
        return not all(isinstance(file, Shard) for file in self._files)

    @property
    def frame_sizes(self) -> set[tuple[int, int]]:
        """Heights and widths as they lie on disk."""
        return {(int(file.frame_size[0]), int(file.frame_size[1])) for file in self._files}

    @property
    def num_frames(self) -> int:
        """Frames in all sources."""
        return sum(source.num_frames for source in self._sources)

    def private(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """What really happened in clip ``index``; for metrics only, and for shards only.

        Returns:
            Real actions (T - 1,) int32, those taken at each frame but the last; rewards (T - 1,) float32
            on the way to the next frame. With ``frame_step`` k, the first of k actions and the sum of k
            rewards. What is received on leaving an episode, as for CoinRun's coin, is in no clip.

        Raises:
            ValueError: If the clip comes from a video or its shard holds none.
        """
        number, start = self._locate(index)
        actions, rewards = self._shard(number).private(start, start + self._span - 1)
        return actions[:: self.frame_step], rewards.reshape(self.clip_length - 1, self.frame_step).sum(-1)

    def player(self, index: int) -> str:
        """Name of who plays in clip ``index``.

        Raises:
            ValueError: If the clip comes from a video.
        """
        number, start = self._locate(index)
        shard = self._shard(number)
        return shard.players[shard.player[start]]

    def attribute(self, index: int, name: str) -> str | int:
        """What the shard of clip ``index`` says of itself: its game, mode, seed, start_level, num_levels.

        Raises:
            ValueError: If the clip comes from a video, or its shard does not say.
        """
        shard = self._shard(self._locate(index)[0])
        if name not in shard.attributes:
            raise ValueError(f"{shard.path}: has no attribute {name!r}, only {sorted(shard.attributes)}")
        value = shard.attributes[name]
        return value if isinstance(value, str) else int(value)

    def level(self, index: int) -> int:
        """Level seed of clip ``index``.

        Raises:
            ValueError: If the clip comes from a video.
        """
        number, start = self._locate(index)
        return int(self._shard(number).level_seeds[start])

    @property
    def episode_starts(self) -> np.ndarray:
        """(num_frames,) bool, one source after the other: True on an episode's first frame."""
        return np.concatenate([source.episode_starts for source in self._sources])

    @property
    def first_frames(self) -> np.ndarray:
        """(len,) int64: the frame that each clip starts at, of all ``num_frames`` one source after the other."""
        before = np.cumsum([0, *(source.num_frames for source in self._sources[:-1])])
        return np.concatenate([starts + first for starts, first in zip(self._starts, before, strict=True)])

    def read_all(self) -> Iterator[np.ndarray]:
        """All frames, one source after the other, some (n, H, W, 3) uint8 at a time, at their final size."""
        return self._read_whole(self._sources)

    def read_sources(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Every source whole: frames (F, H, W, 3) uint8 at their final size, and episode starts (F,) bool."""
        for source in self._sources:
            yield self._hold(source).frames, source.episode_starts

    def cut(self, clip_length: int) -> "ClipDataset":
        """The same frames in clips of another length.

        Raises:
            ValueError: If there is no such clip.
        """
        if clip_length == self.clip_length:
            return self
        other = copy.copy(self)
        other.clip_length = clip_length
        other._count_clips()
        return other

    def in_memory(self) -> "ClipDataset":
        """The same dataset with all its frames in memory, at their final size; clips cost nothing then."""
        held = copy.copy(self)
        held._sources = [self._hold(source) for source in self._sources]
        return held

    def _hold(self, source: Source) -> MemorySource:
        frames, done = np.empty((source.num_frames, self.height, self.width, 3), dtype=np.uint8), 0
        for part in self._read_whole([source]):
            frames[done : done + len(part)] = part
            done += len(part)
        return MemorySource(source.path, frames, source.episode_starts)

    def _read_whole(self, sources: Iterable[Source]) -> Iterator[np.ndarray]:
        parts = [(source, start) for source in sources for start in range(0, source.num_frames, READ_FRAMES)]

        def read(number: int) -> np.ndarray:
            source, start = parts[number]
            frames = source.read(start, min(start + READ_FRAMES, source.num_frames))
            return _resize_all(frames, self.height, self.width)

        return _read_ahead(read, range(len(parts)), min(os.cpu_count() or 1, READERS))

    @property
    def _span(self) -> int:
        return (self.clip_length - 1) * self.frame_step + 1

    def _locate(self, index: int) -> tuple[int, int]:
        """Number of the source and its frame at which clip ``index`` starts."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip must be in [0, {len(self)}), got {index}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        return number, int(self._starts[number][index - first])

    def _shard(self, number: int) -> Shard:
        file = self._files[number]
        if not isinstance(file, Shard):
            raise ValueError(f"{file.path} is a video: it has no players, levels, real actions and rewards")
        return file


def batches(
    dataset: ClipDataset,
    batch_size: int,
    seed: int,
    first_batch: int = 0,
    num_batches: int | None = None,
    workers: int = 0,
    clips: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Batches of clips drawn with replacement, the same whatever ``first_batch`` and ``workers`` are.

    Args:
        dataset: Where from.
        batch_size: Clips a batch, B.
        seed: With a batch's number, decides its clips.
        first_batch: Number of the first batch that is yielded.
        num_batches: How many are yielded; ``None`` for no end.
        clips: Numbers of those that may be drawn; all of them where not given.
        workers: Threads that read ahead. Unpacking shards frees the interpreter, so they help.

    Returns:
        Iterator over batches with videos (B, T, H, W, 3) uint8.

    Raises:
        ValueError: If a number is out of range.
    """
    among = np.arange(len(dataset)) if clips is None else clips
    given = {"seed": seed, "first_batch": first_batch, "num_batches": num_batches or 0, "workers": workers}
    for field, value in given.items():
        if value < 0:
            raise ValueError(f"{field} must be 0 or more, got {value}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    numbers = itertools.islice(itertools.count(first_batch), num_batches)
    draw = functools.partial(_batch, dataset, among, batch_size, seed)
    return map(draw, numbers) if workers == 0 else _read_ahead(draw, numbers, workers)


def draw_numbers(among: np.ndarray, batch_size: int, seed: int, number: int) -> np.ndarray:
    """(batch_size,) of ``among``, with replacement: the clips of a run's batch of that number."""
    return among[np.random.default_rng([seed, number]).integers(len(among), size=batch_size)]


def _batch(dataset: ClipDataset, among: np.ndarray, batch_size: int, seed: int, number: int) -> Batch:
    indices = draw_numbers(among, batch_size, seed, number)
    videos = np.stack([dataset[int(index)] for index in indices])
    return Batch(torch.from_numpy(videos), torch.from_numpy(indices))


def _read_ahead(draw: Callable[[int], Read], numbers: Iterable[int], workers: int) -> Iterator[Read]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clips")
    queue: deque[Future[Read]] = deque()
    try:
        for number in numbers:
            queue.append(pool.submit(draw, number))
            if len(queue) > 2 * workers:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _fingerprint(paths: Sequence[Path], sizes: dict[str, int]) -> str:
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr((stats, sizes)).encode()).hexdigest()


def _clip_starts(episode_starts: np.ndarray, span: int) -> np.ndarray:
    """Frames at which a clip of ``span`` frames fits into its episode."""
    episodes = np.cumsum(episode_starts)
    if span > len(episodes):
        return np.empty(0, dtype=np.int32)
    last = len(episodes) - span + 1
    return np.flatnonzero(episodes[:last] == episodes[span - 1 :]).astype(np.int32)


def _longest_episode(episode_starts: np.ndarray) -> int:
    return int(np.bincount(np.cumsum(episode_starts)).max())


def _resize_all(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([resize(frame, height, width) for frame in frames])


def _open_all(paths: str | Path | Sequence[str | Path], height: int, width: int) -> list[Shard | MemorySource]:
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for path in several for file in _files(Path(path))]
    if not files:
        raise ValueError("paths must name at least one file, got none")
    return [Shard(file) if file.suffix.lower() == SHARD_SUFFIX else _decode(file, height, width) for file in files]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder")
    known = (SHARD_SUFFIX, *VIDEO_SUFFIXES)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
    if not files:
        raise ValueError(f"{path}: holds no shards (*{SHARD_SUFFIX}) and no videos (*{', *'.join(VIDEO_SUFFIXES)})")
    return files


def _decode(path: Path, height: int, width: int) -> MemorySource:
    frames, frame_size = [], None
    for frame in iterate_video(path):
        frame_size = frame.shape[:2]
        frames.append(resize(frame, height, width))
    return MemorySource(path, np.stack(frames), frame_size=frame_size)
