"""Shards of converted videos, and the index of a folder of them.

A video is an episode, or each of its chosen stretches is one. ``clips.json``, the index, is written when all videos are
converted; it lists the shards in the order of the videos, so that a missing or foreign one is noticed.
"""

import functools
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from genie_gym.checks import is_integer, require
from genie_gym.data.config import ClipSettings
from genie_gym.data.frames import resize
from genie_gym.data.hdf5 import open_foreign, read_attributes, read_text
from genie_gym.data.shard_file import create_hdf5, write_attributes, write_text
from genie_gym.data.shards import CHUNK_FRAMES, SHARD_SUFFIX, SHARD_VERSION, VIDEO_FORMAT, mark_starts
from genie_gym.data.video import iterate_video
from genie_gym.foreign import read_json
from genie_gym.system import list_files, replace_file

INDEX_FILE = "clips.json"
_INDEX_BYTES = 1 << 30  # it names every video that is broken or too short, which may be millions
_INDEX_FORMAT = "genie-gym clips"
_INDEX_VERSION = 1
"""Version of the index and of what names are digests of; that of the shards' own format is ``SHARD_VERSION``."""
_PART_FRAMES = 8 * CHUNK_FRAMES
"""Number of frames in memory before they are written."""


class VideoFile(NamedTuple):
    """A video to convert, as it lies on disk now."""

    path: str
    """Path of the file."""
    name: str
    """Name in reports: the path within the folder that was given."""
    size: int
    """Number of bytes."""
    modified: int
    """Time of the last change in nanoseconds."""
    spans: tuple[tuple[int, int], ...] | None = None
    """First frame of each stretch to convert, and the frame after its last one; None for the whole video."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells a changed file from the one that was converted, wherever its folder lies."""
        return (self.name, self.size, self.modified, self.spans)


class VideoOutcome(NamedTuple):
    """What became of a video."""

    name: str
    """Name in reports."""
    frames: int
    """Number of frames in the shard; 0 if the video is broken."""
    longest: int
    """Number of frames of its longest stretch."""
    height: int
    """Height of the video in pixels."""
    width: int
    """Width of the video in pixels."""
    error: str
    """Why it is left out; empty if it is not."""


class VideoShard(NamedTuple):
    """A shard to convert videos into. Its name is a digest of the videos and the settings."""

    videos: tuple[VideoFile, ...]
    """Videos in order."""
    settings: ClipSettings
    """How they are converted."""

    @property
    def name(self) -> str:
        """Name of the shard's file."""
        return f"clips-{digest_videos(self.videos, self.settings)}{SHARD_SUFFIX}"

    def write(self, folder: str) -> list[VideoOutcome]:
        """Convert the videos, frame by frame, and write the shard whole or not at all; broken videos are left out."""
        size, starts, outcomes = (self.settings.height, self.settings.width, 3), [], []
        chunk = (CHUNK_FRAMES, *size)
        cache = 4 * int(np.prod(chunk))  # bytes of chunks that are not yet full
        with create_hdf5(Path(folder) / self.name, rdcc_nbytes=cache) as (file, require_written):
            layout: dict[str, Any] = {"chunks": chunk, "maxshape": (None, *size), "dtype": np.uint8}
            frames = file.create_dataset("frames", (0, *size), compression="gzip", compression_opts=1, **layout)
            for video in self.videos:
                added, outcome = self._convert(video, frames, require_written)
                starts += added
                outcomes.append(outcome)
            file.create_dataset("episode_starts", data=mark_starts(np.array(starts, np.int64), len(frames)))
            # As datasets: attributes are limited to 64 KiB.
            write_text(file, "videos", json.dumps([video.identity for video in self.videos]))
            write_text(file, "outcomes", json.dumps(outcomes))
            write_attributes(
                file, {"format": VIDEO_FORMAT, "version": SHARD_VERSION, "settings": self.settings.to_json()}
            )
        return outcomes

    def _convert(
        self, video: VideoFile, frames: h5py.Dataset, require_written: Callable[[], None]
    ) -> tuple[list[int], VideoOutcome]:
        """Append a video's frames, and return the first frames of its stretches and what became of it."""
        first, height, width, error = len(frames), 0, 0, ""
        starts: list[int] = []
        part: list[np.ndarray] = []
        try:
            for is_start, frame in cut_spans(iterate_video(video.path, self.settings.fps), video.spans, video.path):
                height, width = frame.shape[:2]
                if is_start:
                    starts.append(len(frames) + len(part))
                part.append(resize(frame, self.settings.height, self.settings.width, self.settings.fit))
                if len(part) == _PART_FRAMES:
                    _append(frames, part)
                    require_written()  # a long video is not read to its end for nothing
                    part = []
        except ValueError as damage:
            error = str(damage).removeprefix(f"{video.path}: ")
            frames.resize(first, axis=0)
            starts, part = [], []
        _append(frames, part)
        longest = int(np.diff(starts, append=len(frames)).max(initial=0))
        return starts, VideoOutcome(video.name, len(frames) - first, longest, height, width, error)


def cut_spans(
    frames: Iterator[np.ndarray], spans: tuple[tuple[int, int], ...] | None, path: str | Path
) -> Iterator[tuple[bool, np.ndarray]]:
    """Yield whether a frame is the first of a span, and the frame, for all frames that lie in spans (None for all).

    Spans are in order and do not overlap.

    Raises:
        ValueError: If the frames, those of the video ``path``, end before the last span does.
    """
    if spans is None:
        yield from ((number == 0, frame) for number, frame in enumerate(frames))
        return
    read = 0
    for start, end in spans:
        for frame in itertools.islice(frames, min(end - read, sys.maxsize)):
            if read >= start:
                yield read == start, frame
            read += 1
        if read < end:
            raise ValueError(f"{path}: has {read} frames, and its clips end at {spans[-1][1]}")


def _append(frames: h5py.Dataset, part: list[np.ndarray]) -> None:
    if part:
        frames.resize(len(frames) + len(part), axis=0)
        frames[-len(part) :] = np.stack(part)


def digest_videos(videos: Sequence[VideoFile], settings: ClipSettings) -> str:
    """Return 16 hex digits that identify videos, in their state on disk, and what they are converted to."""
    described = json.dumps([settings.to_json(), _INDEX_VERSION, [video.identity for video in videos]])
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def read_video_outcomes(path: Path) -> tuple[list[Any], list[VideoOutcome], str]:
    """Return the identities of a shard's videos, what became of each, and the settings; ``ValueError`` if damaged."""
    with open_foreign(path) as file:
        videos, outcomes = (read_text(file, name) for name in ("videos", "outcomes"))
        if not isinstance(videos, list) or not isinstance(outcomes, list) or not all(map(_is_outcome, outcomes)):
            raise ValueError(f"{path}: not a whole shard of videos")
        return videos, [VideoOutcome(*values) for values in outcomes], str(read_attributes(file)["settings"])


def _is_outcome(values: Any) -> bool:
    kinds: tuple[Callable[[Any], bool], ...] = (_is_text, _is_count, _is_count, _is_count, _is_count, _is_text)
    fits = isinstance(values, list) and len(values) == len(kinds)
    return fits and all(is_right(value) for is_right, value in zip(kinds, values, strict=True))


class ClipIndex(NamedTuple):
    """The index of a folder of converted videos."""

    folder: Path
    """The folder."""
    digest: str
    """Digest of all videos, those left out too, and the settings."""
    shards: dict[str, int]
    """Name of each shard in order -> its bytes."""
    report: dict[str, Any]
    """What was cropped, left out and too short."""

    @property
    def settings(self) -> ClipSettings:
        """How the videos were converted."""
        return ClipSettings(**self.report["settings"])

    def write(self) -> None:
        """Write the index whole or not at all."""
        values = {"format": _INDEX_FORMAT, "version": _INDEX_VERSION, **self._asdict()}
        del values["folder"]
        with replace_file(self.folder / INDEX_FILE) as temporary:
            temporary.write_text(json.dumps(values, indent=1))

    def check(self) -> list[Path]:
        """Return the shards in order.

        Raises:
            ValueError: If one is missing or of another size, or the folder holds others.
        """
        about, again = self.folder / INDEX_FILE, "run the same genie-gym convert or train again"
        for name, size in self.shards.items():
            path = self.folder / name
            if not path.is_file():
                raise ValueError(f"{path}: is missing, but {about} lists it; {again}")
            if path.stat().st_size != size:
                raise ValueError(f"{path}: has {path.stat().st_size} bytes, but {about} lists {size}; {again}")
        for path in list_files(self.folder, [SHARD_SUFFIX]):
            if path.name not in self.shards:
                raise ValueError(f"{path}: is not listed in {about}, which is out of date; {again}")
        return [self.folder / name for name in self.shards]


def read_index(folder: Path) -> ClipIndex | None:
    """Read the index of a folder, or return None if it has none; ``ValueError`` if the index is damaged."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return None
    try:
        values = read_json(path, _INDEX_BYTES)
        require(isinstance(values, dict), "index", values, "an object")
        require(values.get("format") == _INDEX_FORMAT, "format", values.get("format"), _INDEX_FORMAT)
        require(values.get("version") == _INDEX_VERSION, "version", values.get("version"), str(_INDEX_VERSION))
        _require_fields(values, _INDEX_FIELDS, "")
        _require_fields(values["report"], _REPORT_FIELDS, "report.")
        ClipSettings(**values["report"]["settings"])
        return ClipIndex(folder, values["digest"], values["shards"], values["report"])
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: is no index of clips ({error}); delete it and run the same genie-gym convert or train again"
        ) from error


def _require_fields(values: dict[str, Any], fields: dict[str, Callable[[Any], bool]], where: str) -> None:
    for name, is_right in fields.items():
        require(name in values and is_right(values[name]), where + name, values.get(name), "as genie-gym writes it")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_map(value: Any, is_right: Callable[[Any], bool], name: str = ".*") -> bool:
    is_named = isinstance(value, dict) and all(re.fullmatch(name, each, re.DOTALL) for each in value)
    return is_named and all(map(is_right, value.values()))


_is_count = functools.partial(is_integer, least=0, below=1 << 63)
_INDEX_FIELDS: dict[str, Callable[[Any], bool]] = {
    "digest": _is_text,
    "shards": lambda value: value != {} and _is_map(value, _is_count, rf"clips-[0-9a-f]+\{SHARD_SUFFIX}"),
    "report": lambda value: isinstance(value, dict),
}
_REPORT_FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("videos", "frames", "bytes", "clip_length"), lambda value: _is_count(value) and value > 0),
    **dict.fromkeys(("fitted", "short"), functools.partial(_is_map, is_right=_is_count)),
    "broken": functools.partial(_is_map, is_right=_is_text),
    "settings": lambda value: isinstance(value, dict),
}
"""Name of each field of an index and its report -> whether a value is right."""
