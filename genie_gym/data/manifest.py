"""Manifests: lists of videos, and of the clips in each, that training is limited to.

A manifest has one JSON object a line. The first line names the format, the frame rate at which frames are counted and
how the manifest was made; each other line is a video, with its size and digest, and the clips chosen from it.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from genie_gym.checks import is_integer, require
from genie_gym.data.config import require_rate
from genie_gym.data.video import VIDEO_SUFFIXES
from genie_gym.system import replace_file

MANIFEST_SUFFIX = ".jsonl"
"""Suffix of the files that are read as manifests."""
_FORMAT, _VERSION = "genie-gym manifest", 1
_BLOCK = 1 << 16
"""Bytes that a digest reads at the beginning, in the middle and at the end of a file."""

Span = tuple[int, int]
"""First frame of a clip, and the frame after its last one."""


class Chosen(NamedTuple):
    """A video, and what is chosen from it."""

    path: Path
    """Path of the video."""
    spans: tuple[Span, ...] | None = None
    """Clips in order, which do not overlap; None for the whole video."""
    scores: tuple[float, ...] = ()
    """Probability of each clip to be good, if a classifier chose them."""
    fps: float | None = None
    """Frames per second at which frames are counted and read; None for the frames as they are in the file."""
    are_episodes: bool = False
    """Whether each clip is an episode, so that no training clip crosses to the next even where they touch."""

    @property
    def stretches(self) -> tuple[Span, ...] | None:
        """The clips, of which those that touch are one, so that training clips may cross; episodes stay apart."""
        return self.spans if self.spans is None or self.are_episodes else tuple(_join_spans(self.spans))

    def at_rate(self, fps: float | None) -> "Chosen":
        """Return what is chosen with frames counted at another rate: all that are shown in the same stretches of time.

        Raises:
            ValueError: If one of the rates is None and only stretches are chosen, since files have rates of their own.
        """
        if self.stretches is None or fps == self.fps:
            return self._replace(fps=fps)
        if fps is None or self.fps is None:
            counted = "in frames of the file: leave fps out" if self.fps is None else f"at {self.fps} fps"
            raise ValueError(f"the clips of {self.path} are counted {counted}, got fps {fps}")
        scale = Fraction(fps) / Fraction(self.fps)
        spans = [(math.ceil(start * scale), math.floor((stop - 1) * scale) + 1) for start, stop in self.stretches]
        kept = tuple((start, stop) for start, stop in spans if start < stop)
        return Chosen(self.path, kept, fps=fps, are_episodes=self.are_episodes)


def digest_data(chosen: Iterable[Chosen]) -> str:
    """Return 16 hex digits that identify what is chosen from files, by their digests and not by their names."""
    described = [(digest_file(each.path), each.fps, each.stretches) for each in chosen]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Return 16 hex digits of the file's size and of 64 KiB at its beginning, in its middle and at its end.

    Three blocks take no time for a file of any size, and a copied file keeps its digest.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for offset in (0, max(0, (size - _BLOCK) // 2), max(0, size - _BLOCK)):
            file.seek(offset)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def head_line(fps: float | None, about: dict[str, Any]) -> str:
    """Return the first line of a manifest.

    Args:
        fps: Frames per second at which frames are counted; None for the frames as they are in the files.
        about: How the manifest was made, as JSON values.
    """
    return json.dumps({"format": _FORMAT, "version": _VERSION, "fps": fps, "about": about}) + "\n"


def video_line(chosen: Chosen, folder: Path) -> str:
    """Return the line of a video in a manifest that lies in ``folder``; ``ValueError`` if the video cannot be read."""
    try:
        path = os.path.relpath(chosen.path.resolve(), folder.resolve())
        about = {"path": Path(path).as_posix(), "bytes": chosen.path.stat().st_size, "digest": digest_file(chosen.path)}
    except OSError as error:
        raise ValueError(f"{chosen.path}: cannot be read ({error})") from error
    return json.dumps({**about, "clips": chosen.spans, "scores": [round(score, 4) for score in chosen.scores]}) + "\n"


def write_manifest(path: Path, videos: Iterable[Chosen], fps: float | None, about: dict[str, Any]) -> None:
    """Write a manifest whole or not at all; ``fps``, which all videos share, and ``about`` as of ``head_line``.

    Raises:
        ValueError: If the suffix is another one, a video cannot be read, or the file cannot be written.
    """
    require_manifest(path)
    try:
        with replace_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(head_line(fps, about))
            file.writelines(video_line(video, path.parent) for video in videos)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error})") from error


def require_manifest(path: Path) -> None:
    """Raise ``ValueError`` unless ``path`` has the suffix of a manifest."""
    require(path.suffix == MANIFEST_SUFFIX, "manifest", str(path), f"a file that ends in {MANIFEST_SUFFIX}")


def read_manifest(path: Path) -> list[Chosen]:
    """Return the videos of a manifest that have chosen frames.

    Raises:
        ValueError: Naming the file, if a line is damaged, or a video is missing or has changed since.
    """
    videos, fps = [], None
    for number, values in enumerate(_read_lines(path), start=1):
        where = f"{path}, line {number}"
        if number == 1:
            fps = _read_head(where, values)
        else:
            chosen = _read_video(where, values, path.parent)
            _require_unchanged(path, chosen.path, values)
            if chosen.spans != ():
                videos.append(chosen._replace(fps=fps))
    require(bool(videos), f"{path}: number of videos with chosen clips", 0, "positive")
    return videos


def _read_lines(path: Path) -> Iterator[Any]:
    read = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
                read += 1
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: line {read + 1} is damaged, or the file cannot be read ({error})") from error
    if read == 0:
        raise ValueError(f"{path}: is empty and no manifest")


def _read_head(where: str, values: Any) -> float | None:
    is_ours = isinstance(values, dict) and values.get("format") == _FORMAT
    require(is_ours and values.get("version") == _VERSION, where, values, f"a {_FORMAT} of version {_VERSION}")
    fps: float | None = values.get("fps")
    require_rate(f"{where}: fps", fps)
    return fps


def _read_video(where: str, values: Any, folder: Path) -> Chosen:
    is_named = isinstance(values, dict) and isinstance(values.get("path"), str)
    require(is_named and Path(values["path"]).suffix.lower() in VIDEO_SUFFIXES, where, values, "a video with its path")
    clips = values.get("clips")
    if clips is None:
        return Chosen(folder / values["path"])
    fits = isinstance(clips, list) and all(_is_span(clip) for clip in clips)
    edges = list(itertools.chain(*clips)) if fits else []
    rule = "null or pairs [first frame, frame after the last] in order"
    require(fits and edges == sorted(edges), f"{where}: clips", clips, rule)
    return Chosen(folder / values["path"], tuple((start, stop) for start, stop in clips))


def _is_span(clip: Any) -> bool:
    is_pair = isinstance(clip, list) and len(clip) == 2 and all(is_integer(each, 0) for each in clip)
    return is_pair and clip[0] < clip[1]


def _require_unchanged(manifest: Path, video: Path, values: dict[str, Any]) -> None:
    try:
        if not video.is_file():
            raise ValueError(f"manifest {manifest} is out of date: {video} is missing")
        size, digest = video.stat().st_size, digest_file(video)
    except OSError as error:
        raise ValueError(f"manifest {manifest}: {video} cannot be read ({error.strerror})") from error
    if size != values.get("bytes"):
        raise ValueError(f"manifest {manifest} is out of date: {video} had {values.get('bytes')} bytes, now {size}")
    if digest != values.get("digest"):
        raise ValueError(f"manifest {manifest} is out of date: the contents of {video} have changed")


def _join_spans(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined
