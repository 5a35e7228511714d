"""Sources of frames (shards on disk, videos in memory), and threads that read them ahead of use."""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from genie_gym.checks import require
from genie_gym.data.frames import resize
from genie_gym.data.lerobot import is_lerobot, read_lerobot, require_outside
from genie_gym.data.manifest import MANIFEST_SUFFIX, Chosen, Span, read_manifest
from genie_gym.data.shards import SHARD_SUFFIX, Shard
from genie_gym.data.video import VIDEO_SUFFIXES, iterate_video
from genie_gym.data.video_shards import INDEX_FILE, cut_spans, read_index
from genie_gym.system import list_files

Read = TypeVar("Read")
Paths = str | Path | Sequence[str | Path]
_PART_FRAMES = 1024
"""Number of frames that ``read_parts`` reads at once."""
_SUFFIXES = (SHARD_SUFFIX, *VIDEO_SUFFIXES)
_MOST_HELD = 4 << 30
"""Largest number of bytes of decoded videos in memory."""
_MAX_READERS = 16
"""Largest number of threads that decompress shards, however many cores there are."""


class Source(Protocol):
    """Frames in order, divided into episodes."""

    path: Path
    num_frames: int
    episodes: np.ndarray

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames ``start`` to ``stop`` (excluded): (n, H, W, 3) uint8."""


class MemorySource:
    """A source whose frames are in memory.

    Args:
        path: File that the frames come from.
        frames: (F, H, W, 3) uint8.
        episodes: (E,) int64, the first frames of the episodes.
        frame_size: Height and width of a decoded video's frames before scaling.
        stretches: Stretches of the file that a manifest chose; None for the whole file.
    """

    def __init__(
        self,
        path: Path,
        frames: np.ndarray,
        episodes: np.ndarray,
        frame_size: tuple[int, ...],
        stretches: tuple[Span, ...] | None = None,
    ) -> None:
        self.path, self.frames, self.num_frames = path, frames, len(frames)
        self.episodes, self.frame_size, self.stretches = episodes, frame_size, stretches

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a view of frames ``start`` to ``stop`` (excluded)."""
        return self.frames[start:stop]


def open_sources(paths: Paths, height: int, width: int) -> list[Shard | MemorySource]:
    """Open every shard and decode every video of ``paths``, as ``find_chosen`` lists them.

    Videos are decoded into memory at (height, width); shards stay on disk at their own size.

    Raises:
        ValueError: If a path does not exist or holds no data, files cannot be read (all of them are named), or the
            videos need more than 4 GiB.
    """
    sources: list[Shard | MemorySource] = []
    broken, held = [], 0
    for file in find_chosen(paths):
        try:
            source = _decode(file, height, width, _MOST_HELD - held) if is_video(file.path) else Shard(file.path)
            _require_finished(source)
            held += source.frames.nbytes if isinstance(source, MemorySource) else 0
            sources.append(source)
        except _TooManyFramesError:
            raise
        except ValueError as error:
            broken.append(str(error))
    if broken:
        raise ValueError("\n".join(broken))
    return sources


class _TooManyFramesError(ValueError):
    """Raised as soon as videos do not fit in memory."""


def _require_finished(source: Shard | MemorySource) -> None:
    folder = source.path.parent
    if isinstance(source, Shard) and not source.is_recording and not (folder / INDEX_FILE).is_file():
        raise ValueError(f"{source.path}: {folder} has no {INDEX_FILE}, its conversion is not finished; run it again")


def find_data(paths: Paths) -> list[Path]:
    """Return the paths of what ``find_chosen`` finds."""
    return [chosen.path for chosen in find_chosen(paths)]


def find_chosen(paths: Paths, without: Collection[Path] = (), camera: str | None = None) -> list[Chosen]:
    """Return the shards and videos of ``paths``, those of a folder and its subfolders in the order of their paths.

    A manifest stands for its videos, with the stretches that it chose from them, and the folder of a LeRobot dataset
    for those of its ``camera`` (None for the only one), with their episodes. The shards of converted videos come in the
    order of their index. Names that begin with a dot are no data, nor is what lies in the folders ``without``.

    Raises:
        ValueError: If a path does not exist, a folder holds no data, or both videos and converted videos, shards are
            not those of their index, a manifest is out of date, or a LeRobot dataset is damaged or has no such camera.
    """
    several = list_paths(paths)
    require_camera(several, camera)
    files = [file for path in several for file in _list_chosen(path, without, camera)]
    if not files:
        raise ValueError("data must be at least one file or folder, got none")
    return files


def list_paths(paths: Paths) -> list[Path]:
    """Return one or more paths as a list."""
    return [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def require_camera(paths: Sequence[Path], camera: str | None) -> None:
    """Raise ``ValueError`` if a camera is named, and no path is the folder of a LeRobot dataset."""
    is_used = camera is None or any(map(is_lerobot, paths))
    require(is_used, "camera", camera, "left out: no path is the folder of a LeRobot dataset")


def read_listed(path: Path, camera: str | None) -> list[Chosen] | None:
    """Return the videos of a manifest or of a LeRobot dataset's camera, with what is chosen of them; None for others.

    Raises:
        ValueError: If the manifest is out of date, or the dataset is damaged or has no such camera.
    """
    if path.suffix.lower() == MANIFEST_SUFFIX:
        return read_manifest(path)
    return read_lerobot(path, camera) if is_lerobot(path) else None


def is_video(path: Path) -> bool:
    """Return whether the file's name is that of a video, not of a shard."""
    return path.suffix.lower() != SHARD_SUFFIX


def _list_chosen(path: Path, without: Collection[Path], camera: str | None) -> list[Chosen]:
    listed = read_listed(path, camera)
    return [Chosen(file) for file in _list_data(path, without)] if listed is None else listed


def _list_data(path: Path, without: Collection[Path]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder")
    index = read_index(path)
    if index is not None:
        return index.check()
    files = list_files(path, _SUFFIXES, deep=True)
    hidden = [folder.resolve() for folder in without]
    files = [file for file in files if not any(map(file.resolve().is_relative_to, hidden))] if hidden else files
    require_outside(path, filter(is_video, files))
    if not files:
        raise ValueError(f"{path}: holds no shards (*{SHARD_SUFFIX}) and no videos (*{', *'.join(VIDEO_SUFFIXES)})")
    indexed = {folder: read_index(folder) for folder in sorted({file.parent for file in files})}
    shards = {folder: index.check() for folder, index in indexed.items() if index is not None}
    if shards and any(map(is_video, files)):
        raise ValueError(f"{path}: holds videos and, in {next(iter(shards))}, converted videos; name one of them")
    # The first file of such a folder stands for its shards, which come in the order of the index.
    return [each for file in files for each in (shards.pop(file.parent, []) if indexed[file.parent] else [file])]


def _decode(chosen: Chosen, height: int, width: int, room: int) -> MemorySource:
    """Decode a video, scaled; ``ValueError`` as soon as its frames take more than ``room`` bytes."""
    frames: list[np.ndarray] = []
    starts: list[int] = []
    frame_size = None
    for is_start, frame in cut_spans(iterate_video(chosen.path, chosen.fps), chosen.stretches, chosen.path):
        frame_size = frame.shape[:2]
        starts += [len(frames)] if is_start else []
        frames.append(resize(frame, height, width))
        if len(frames) * frames[0].nbytes > room:
            raise _TooManyFramesError(
                f"videos must have up to 4 GiB of frames, got more; use genie-gym convert: {chosen.path}"
            )
    return MemorySource(chosen.path, np.stack(frames), np.array(starts), frame_size or (), chosen.stretches)


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
    return MemorySource(source.path, frames, source.episodes, (height, width))


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
