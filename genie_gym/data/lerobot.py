"""LeRobot datasets read as videos: an episode of a camera is an unbroken stretch of a video file.

Versions 2.0 and 2.1 have a file for each episode, listed in ``meta/episodes.jsonl``; version 3.0 joins several episodes
in a file, each from one time to another, listed in ``meta/episodes/*/*.parquet``. Actions and states are not read:
frames are taken by their time, at any rate, and shards of videos hold frames alone.
"""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from genie_gym.checks import is_finite, is_integer, require
from genie_gym.data.config import MAX_FPS
from genie_gym.data.manifest import Chosen
from genie_gym.data.video import VIDEO_SUFFIXES
from genie_gym.extras import need_extra
from genie_gym.foreign import read_json, read_json_text, require_file
from genie_gym.system import list_files

_INFO = Path("meta") / "info.json"
_EPISODES_FILE, _EPISODES_FOLDER = Path("meta") / "episodes.jsonl", Path("meta") / "episodes"
_VERSIONS_OF_FILES, _VERSION_OF_JOINED = ("v2.0", "v2.1"), "v3.0"
"""Versions with a file for each episode, and the one that joins episodes in a file."""
_DEPTH = 3
"""Number of folders of a dataset above those of its videos."""
_LIST_BYTES = 1 << 28
"""Largest size of a list of episodes."""
_MOST_EPISODES, _MOST_FRAMES = 1 << 20, 1 << 31
"""Largest number of episodes in a list, and of an episode's frames."""
_FIELD = re.compile(r"\{(\w+)(?::0([1-9])d)?\}")
"""A field of a path template, with the number of digits that it is padded to."""


class _Episode(NamedTuple):
    """An episode of a camera."""

    number: int
    """Its ``episode_index``."""
    path: Path
    """Path of its video file."""
    start: int
    """Its first frame in the file."""
    stop: int
    """The frame after its last one."""


class _Info(NamedTuple):
    """What ``meta/info.json`` says."""

    path: Path
    """The file."""
    version: str
    """Version of the format."""
    fps: float
    """Frames per second."""
    chunk_size: int
    """Number of episodes in a folder, where each has a file."""
    template: str
    """Path of a video with the fields of its episode or file."""
    cameras: tuple[str, ...]
    """Names of the features that are videos."""
    has_actions: bool
    """Whether the dataset has actions."""

    @property
    def root(self) -> Path:
        """Folder of the dataset."""
        return self.path.parent.parent


def is_lerobot(folder: Path) -> bool:
    """Return whether a path is the folder of a LeRobot dataset: whether it has a ``meta/info.json``."""
    return (folder / _INFO).is_file()


def read_lerobot(folder: Path, camera: str | None = None) -> list[Chosen]:
    """Return the video files of a LeRobot dataset's camera, each with its episodes.

    Args:
        folder: Folder of the dataset.
        camera: Name of the camera, with or without ``observation.images.`` before it; None for the only one.

    Raises:
        ValueError: If the dataset has no videos or several cameras to choose from, a file of ``meta`` is damaged or of
            an unknown version, or a video is missing. It names the file and the field.
        MissingExtraError: If pyarrow, which reads the episodes of version 3.0, is not installed.
    """
    info = _read_info(folder)
    key = _find_camera(info, camera)
    episodes = sorted((_list_joined if info.version == _VERSION_OF_JOINED else _list_files)(info, key))
    require(len(episodes) > 0, f"{info.root / 'meta'}: number of episodes", 0, "positive")
    numbers = [episode.number for episode in episodes]
    twice = [number for number, after in itertools.pairwise(numbers) if number == after]
    require(not twice, f"{info.root / 'meta'}: episode_index", twice[:1], "listed once")
    inside: dict[Path, list[_Episode]] = {}
    for episode in episodes:
        inside.setdefault(episode.path, []).append(episode)
    return [_choose(info, path, sorted(several, key=attrgetter("start"))) for path, several in inside.items()]


def tell_actions(folder: Path) -> list[str]:
    """Return a line that says that the actions of a LeRobot dataset are left out, if it has any."""
    left_out = f"  the actions of {folder} are left out: clips of videos hold frames alone"
    return [left_out] if _read_info(folder).has_actions else []


def require_outside(folder: Path, files: Iterable[Path]) -> None:
    """Raise ``ValueError`` if files in ``folder`` are videos of a LeRobot dataset, whose episodes would be lost."""
    within = {parent for file in files for parent in file.parents if parent.is_relative_to(folder)}
    above = {parent for inner in within for parent in inner.absolute().parents[:_DEPTH]}
    for parent in sorted({inner.absolute() for inner in within} | above):
        if is_lerobot(parent):
            raise ValueError(f"{folder}: holds videos of the LeRobot dataset {parent}; name that folder itself")


def _read_info(folder: Path) -> _Info:
    path = folder / _INFO
    values = read_json(path)
    require(isinstance(values, dict), str(path), values, "a JSON object")
    version = values.get("codebase_version")
    known = (*_VERSIONS_OF_FILES, _VERSION_OF_JOINED)
    require(version in known, f"{path}: codebase_version", version, f"one of {', '.join(known)}")
    fps, size, template = (values.get(name) for name in ("fps", "chunks_size", "video_path"))
    require(is_finite(fps) and 0 < fps <= MAX_FPS, f"{path}: fps", fps, f"a number in (0, {MAX_FPS}]")
    require(version == _VERSION_OF_JOINED or is_integer(size, 1), f"{path}: chunks_size", size, "a positive integer")
    features = values.get("features")
    fits = isinstance(features, dict) and all(isinstance(each, dict) for each in features.values())
    require(fits, f"{path}: features", features, "an object of objects")
    cameras = tuple(name for name, each in features.items() if each.get("dtype") == "video")
    if not cameras:
        pictures = "; its cameras are pictures, which are not read" if _has_pictures(features) else ""
        raise ValueError(f"{path}: features must have one of dtype 'video', got none{pictures}")
    require(isinstance(template, str), f"{path}: video_path", template, "a text")
    return _Info(path, version, float(fps), size or 1, template, cameras, "action" in features)


def _has_pictures(features: dict[str, dict[str, Any]]) -> bool:
    return any(each.get("dtype") == "image" for each in features.values())


def _find_camera(info: _Info, camera: str | None) -> str:
    """Return the full name of a camera."""
    listed = f"{', '.join(info.cameras)}"
    if camera is None:
        if len(info.cameras) > 1:
            raise ValueError(
                f"{info.root} has several cameras; --camera of train, convert or label takes one: {listed}"
            )
        return info.cameras[0]
    found = [name for name in info.cameras if name == camera] or [
        name for name in info.cameras if name.endswith(f".{camera}")
    ]
    require(len(found) == 1, "camera", camera, f"one of {info.root}: {listed}")
    return found[0]


def _list_files(info: _Info, key: str) -> Iterator[_Episode]:
    """Yield the episodes of a dataset with a file for each."""
    path = info.root / _EPISODES_FILE
    # Lines end at \n alone: splitlines would break a task's text at other ends.
    lines = [line for line in read_json_text(path, _LIST_BYTES).split("\n") if line.strip()]
    require(len(lines) <= _MOST_EPISODES, f"{path}: number of episodes", len(lines), f"at most {_MOST_EPISODES}")
    for place, line in enumerate(lines, start=1):
        where = f"{path}, line {place}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: is no JSON ({error})") from error
        require(isinstance(values, dict), where, values, "an object")
        number, frames = values.get("episode_index"), values.get("length")
        _require_count(f"{where}: episode_index", number, _MOST_FRAMES)
        _require_length(where, frames)
        fields = {"episode_chunk": number // info.chunk_size, "episode_index": number, "video_key": key}
        yield _Episode(number, _fill(info, fields), 0, frames)


def _list_joined(info: _Info, key: str) -> Iterator[_Episode]:
    """Yield the episodes of a dataset that joins several in a file."""
    folder = info.root / _EPISODES_FOLDER
    files = list_files(folder, [".parquet"], deep=True) if folder.is_dir() else []
    require(len(files) > 0, f"{folder}: number of *.parquet files", 0, "positive")
    names = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    for file in files:
        for place, row in enumerate(_read_rows(file, ["episode_index", "length", *names])):
            number, frames, chunk, part, start, stop = row
            where = f"{file}, row {place}"
            _require_count(f"{where}: episode_index", number, _MOST_FRAMES)
            _require_length(where, frames)
            for name, value in zip(names[:2], (chunk, part), strict=True):
                _require_count(f"{where}: {name}", value, _MOST_FRAMES)
            for name, value in zip(names[2:], (start, stop), strict=True):
                fits = is_finite(value) and 0 <= value * info.fps < _MOST_FRAMES
                require(fits, f"{where}: {name}", value, "a time in seconds")
            first, end = round(start * info.fps), round(stop * info.fps)
            # Timestamps add up the times that files state, which may be a frame longer than their episodes.
            times = f"{start:g} to {stop:g} seconds, {end - first} frames"
            require(
                abs(end - first - frames) <= 1,
                f"{where}: length",
                frames,
                f"that of {names[2]} and {names[3]}, {times}",
            )
            fields = {"chunk_index": chunk, "file_index": part, "video_key": key}
            yield _Episode(number, _fill(info, fields), first, min(end, first + frames))


def _read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a parquet file's columns."""
    with need_extra("lerobot", "Reading the episodes of LeRobot's version 3.0 needs pyarrow"):
        from pyarrow import ArrowException, parquet, types
    require_file(path, _LIST_BYTES)
    try:
        with parquet.ParquetFile(path) as file:
            rows = file.metadata.num_rows
            require(rows <= _MOST_EPISODES, f"{path}: number of episodes", rows, f"at most {_MOST_EPISODES}")
            for name in columns:
                kinds = [field.type for field in file.schema_arrow if field.name == name]
                fits = len(kinds) == 1 and (types.is_integer(kinds[0]) or types.is_floating(kinds[0]))
                require(fits, f"{path}: column {name}", [*map(str, kinds)], "one of numbers")
            table = file.read(columns=list(columns), use_threads=False)
            return zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    except (ArrowException, OSError, UnicodeError) as error:
        raise ValueError(f"{path}: is damaged or no parquet file ({error})") from error


def _fill(info: _Info, values: dict[str, int | str]) -> Path:
    """Return the path of a video by the dataset's template, which a stranger wrote: it may not lead elsewhere.

    ``str.format`` would let a template read attributes, and ask for a number of any width.
    """
    where, rule = f"{info.path}: video_path", f"a path of a video with the fields {', '.join(values)}"
    for name, _ in _FIELD.findall(info.template):
        require(name in values, where, info.template, rule)
    filled = _FIELD.sub(lambda found: str(values[found[1]]).rjust(int(found[2] or 0), "0"), info.template)
    path = PurePosixPath(filled)
    leads_out = path.is_absolute() or ".." in path.parts or "\0" in filled or "\\" in filled
    require(not leads_out, where, filled, "a path within the dataset")
    fits = path.suffix.lower() in VIDEO_SUFFIXES and not re.search(r"[{}]", _FIELD.sub("", info.template))
    require(fits, where, info.template, rule)
    return info.root / path


def _choose(info: _Info, path: Path, episodes: Sequence[_Episode]) -> Chosen:
    """Return a video file with its episodes in order."""
    where = f"{info.root}: video of episode {episodes[0].number}"
    require(os.path.isfile(path), where, str(path), "a file that exists")  # False for names that are no paths, too
    for before, after in itertools.pairwise(episodes):
        frames = f"frames {before.start} to {before.stop} and {after.start} to {after.stop}"
        require(before.stop <= after.start, f"{path}: episodes {before.number}, {after.number}", frames, "apart")
    spans = tuple((episode.start, episode.stop) for episode in episodes)
    return Chosen(path, spans, fps=info.fps, are_episodes=True)


def _require_length(where: str, frames: Any) -> None:
    require(is_integer(frames, 1, _MOST_FRAMES), f"{where}: length", frames, "a positive integer")


def _require_count(field: str, value: Any, below: int) -> None:
    require(is_integer(value, 0, below), field, value, f"an integer in [0, {below})")
