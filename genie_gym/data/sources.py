"""Sources of frames (shards on disk, videos in memory), and threads that read them ahead of use."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from genie_gym.checks import require
from genie_gym.data.frames import resize
from genie_gym.data.manifest import MANIFEST_SUFFIX, Chosen, Span, join_spans, read_manifest
from genie_gym.data.shards import SHARD_SUFFIX, Shard
from genie_gym.data.video import VIDEO_SUFFIXES, iterate_video

Read = TypeVar("Read")
Paths = str | Path | Sequence[str | Path]
_PART_FRAMES = 1024
"""Number of frames that ``read_parts`` reads at once."""
_MAX_READERS = 16
"""Largest number of threads that decompress shards, however many cores there are."""


class Source(Protocol):
    """Frames in order, divided into episodes."""

    path: Path
    num_frames: int
    episode_starts: np.ndarray

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames ``start`` to ``stop`` (excluded): (n, H, W, 3) uint8."""


class MemorySource:
    """A source whose frames are in memory.

    Args:
        path: File that the frames come from.
        frames: (F, H, W, 3) uint8.
        episode_starts: (F,) bool, True on the first frame of an episode.
        frame_size: Height and width of a decoded video's frames before scaling.
    """

    def __init__(self, path: Path, frames: np.ndarray, episode_starts: np.ndarray, frame_size: tuple[int, ...]) -> None:
        self.path, self.frames, self.num_frames = path, frames, len(frames)
        self.episode_starts, self.frame_size = episode_starts, frame_size

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a view of frames ``start`` to ``stop`` (excluded)."""
        return self.frames[start:stop]


class SelectedSource:
    """The frames of a source that a manifest chose; each chosen stretch is an episode of its own, or several.

    Args:
        source: Source to choose from.
        spans: First frame of each stretch and the frame after its last one, in order.

    Raises:
        ValueError: If a stretch goes beyond the source's last frame.
    """

    def __init__(self, source: MemorySource, spans: Sequence[Span]) -> None:
        self.path, self.frame_size, self._source = source.path, source.frame_size, source
        self.spans = join_spans(spans)
        if self.spans[-1][1] > source.num_frames:
            raise ValueError(f"{self.path}: has {source.num_frames} frames, and its clips end at {self.spans[-1][1]}")
        self._indices = np.concatenate([np.arange(start, stop) for start, stop in self.spans])
        self.num_frames = len(self._indices)
        self.episode_starts = source.episode_starts[self._indices] | (np.diff(self._indices, prepend=-2) > 1)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return chosen frames ``start`` to ``stop`` (excluded): (n, H, W, 3) uint8."""
        indices = self._indices[start:stop]
        stretches = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
        parts = [self._source.read(int(part[0]), int(part[-1]) + 1) for part in stretches]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def open_sources(paths: Paths, height: int, width: int) -> list[Shard | MemorySource | SelectedSource]:
    """Open every shard and decode every video of ``paths``, the files of a folder in the order of their names.

    Videos are decoded into memory at (height, width); shards stay on disk at their own size. A manifest stands for the
    videos that it lists, limited to the clips that it chose.

    Raises:
        ValueError: If a path does not exist or cannot be read, a folder holds no shard and no video, or a manifest is
            out of date.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for path in several for file in list_chosen(Path(path))]
    if not files:
        raise ValueError("paths must name at least one file, got none")
    return [_open(file, height, width) for file in files]


def _open(chosen: Chosen, height: int, width: int) -> Shard | MemorySource | SelectedSource:
    if chosen.path.suffix.lower() == SHARD_SUFFIX:
        require(chosen.spans is None, f"{chosen.path}: clips chosen by a manifest", chosen.spans, "those of videos")
        return Shard(chosen.path)
    source = _decode(chosen.path, height, width, chosen.fps)
    return source if chosen.spans is None else SelectedSource(source, chosen.spans)


def list_chosen(path: Path) -> list[Chosen]:
    """Return the files of a folder in the order of their names, those of a manifest with its clips, or one file.

    Raises:
        ValueError: If the path does not exist, a folder holds no shard and no video, or a manifest is out of date.
    """
    if path.suffix.lower() == MANIFEST_SUFFIX:
        return read_manifest(path)
    return [Chosen(file) for file in _list_files(path)]


def _list_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder")
    known = (SHARD_SUFFIX, *VIDEO_SUFFIXES)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
    if not files:
        raise ValueError(f"{path}: holds no shards (*{SHARD_SUFFIX}) and no videos (*{', *'.join(VIDEO_SUFFIXES)})")
    return files


def _decode(path: Path, height: int, width: int, fps: float | None) -> MemorySource:
    frames, frame_size = [], None
    for frame in iterate_video(path, fps):
        frame_size = frame.shape[:2]
        frames.append(resize(frame, height, width))
    return MemorySource(path, np.stack(frames), np.arange(len(frames)) == 0, frame_size or ())


def read_parts(sources: Iterable[Source], height: int, width: int) -> Iterator[np.ndarray]:
    """Read whole sources in order, in parts (n, height, width, 3) uint8 of up to 1024 frames, each of one source."""
    parts = [(source, start) for source in sources for start in range(0, source.num_frames, _PART_FRAMES)]

    def read(number: int) -> np.ndarray:
        source, start = parts[number]
        frames = source.read(start, min(start + _PART_FRAMES, source.num_frames))
        return resize_all(frames, height, width)

    return read_ahead(read, range(len(parts)), min(os.cpu_count() or 1, _MAX_READERS))


def load_source(source: Source, height: int, width: int) -> MemorySource:
    """Read a source into memory with its frames scaled to (height, width)."""
    frames, done = np.empty((source.num_frames, height, width, 3), dtype=np.uint8), 0
    for part in read_parts([source], height, width):
        frames[done : done + len(part)] = part
        done += len(part)
    return MemorySource(source.path, frames, source.episode_starts, (height, width))


def resize_all(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (T, H, W, 3) to (T, height, width, 3); frames of the right size are returned without a copy."""
    return frames if frames.shape[1:3] == (height, width) else np.stack([resize(f, height, width) for f in frames])


def read_ahead(read: Callable[[int], Read], numbers: Iterable[int], workers: int) -> Iterator[Read]:
    """Map ``read`` over ``numbers`` in order, up to ``2 * workers`` results ahead in ``workers`` threads."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clips")
    queue: deque[Future[Read]] = deque()
    try:
        for number in numbers:
            queue.append(pool.submit(read, number))
            if len(queue) > 2 * workers:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
