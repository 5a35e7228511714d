"""Conversion of videos into shards that training streams: once, in parallel, and resumable.

Videos are divided into groups, a shard each. A shard is complete or absent, and names its videos as they were: a run
that was killed keeps the complete ones, and videos that were changed, added or removed cost only their own shards.
"""

import functools
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from genie_gym.checks import require
from genie_gym.data.config import ClipSettings, ConvertConfig
from genie_gym.data.fitting import describe_resize
from genie_gym.data.lerobot import is_lerobot, require_outside, tell_actions
from genie_gym.data.manifest import Chosen
from genie_gym.data.shards import SHARD_SUFFIX
from genie_gym.data.sources import Paths, find_chosen, is_video, list_paths, read_listed, require_camera
from genie_gym.data.video import VIDEO_SUFFIXES
from genie_gym.data.video_shards import (
    INDEX_FILE,
    ClipIndex,
    VideoFile,
    VideoOutcome,
    VideoShard,
    digest_videos,
    read_index,
    read_video_outcomes,
)
from genie_gym.parallel import run_in_processes
from genie_gym.system import count_cores, list_files, lock_folder

_GROUP_VIDEOS, _GROUP_BYTES = 128, 1 << 26
"""Largest number of videos and of their bytes in a shard; a larger video has a shard of its own."""
_WAITING = ".new"
"""Folder of new shards beside finished clips."""
_SHOWN = 10
"""Number of names in a line of a report."""


class Conversion(NamedTuple):
    """Converted videos."""

    folder: Path
    """Folder of the shards."""
    shards: list[Path]
    """The shards, in the order of the videos."""
    lines: list[str]
    """What was converted, cropped, left out and too short, in lines to print."""


def convert(
    videos: Paths, out: Path, config: ConvertConfig, workers: int | None = None, progress: bool = True
) -> Conversion:
    """Convert videos into shards of clips; another call converts what is missing or has changed since.

    Args:
        videos: Video files, folders that are searched with their subfolders, folders of LeRobot datasets, of which the
            episodes of a camera are converted, and manifests, of which the chosen clips are, both at the rate at which
            they are counted if ``config.fps`` is None.
        out: Folder of the shards, which then holds these videos and no others.
        config: Frame rate and size, and what to do with broken files.
        workers: Number of processes; by default one for each core. The shards do not depend on it.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there are no videos, all of them are broken, any is broken and ``config.on_broken`` is ``stop``
            (all broken ones are named; what ``out`` holds stays as it was), ``out`` holds shards of other settings, or
            another process converts into it.
        MissingExtraError: If a LeRobot dataset needs pyarrow, and it is not installed.
    """
    workers = count_cores() if workers is None else workers
    require(workers > 0, "workers", workers, "positive")
    paths = list_paths(videos)
    chosen = _list_chosen(paths, config.camera)
    config = _settle_rate(config, [each for each, _ in chosen])
    files = _describe_files(chosen, config.fps)
    index = _read_current(files, out, config)
    if index is None:
        with lock_folder(out):
            index = _read_current(files, out, config) or _renew(files, out, config, workers, progress)
    _require_frames(index, config)
    left_out = [line for path in paths if is_lerobot(path) for line in tell_actions(path)]
    return Conversion(out, index.check(), describe_report(index) + left_out)


class Prepared(NamedTuple):
    """Files to train on."""

    files: list[Path]
    """Shards, those that were given and those of converted videos."""
    fps: float | None
    """Frames per second that was asked for; if none was, that of converted videos and manifests; None without them."""


def prepare_clips(
    paths: Paths,
    cache: Path,
    config: ConvertConfig,
    say: Callable[[str], None],
    workers: int | None = None,
    without: Collection[Path] = (),
) -> Prepared:
    """Return the shards among ``paths``, and those in ``cache`` that the videos among them are converted into.

    Converted videos are kept in the cache, and only changed ones are converted anew. Other arguments and errors as for
    ``convert``.

    Args:
        paths: As of ``find_chosen``.
        cache: Folder for converted videos, which is no data itself.
        config: How videos are converted, and the settings of those that were converted before.
        say: Called with each line about the conversion.
        workers: Number of converting processes.
        without: Other folders that are no data.

    Raises:
        ValueError: Also if converted videos among ``paths`` have other settings.
    """
    chosen = find_chosen(paths, (cache, *without), config.camera)
    shards = [each.path for each in chosen if not is_video(each.path)]
    indices = [index for folder in sorted({path.parent for path in shards}) if (index := read_index(folder))]
    config = _settle_rate(config, chosen, indices)
    for index in indices:
        if index.settings != config.settings():
            raise ValueError(
                f"{index.folder} was converted with {index.settings}, but {config.settings()} is asked for; ask for "
                f"the same, or convert the videos into another folder"
            )
    if len(shards) == len(chosen):
        return Prepared(shards, config.fps)
    say(f"the clips of {len(chosen) - len(shards)} videos are kept in {cache}, and converted where they are not there")
    conversion = convert(paths, cache, config, workers)
    for line in conversion.lines:
        say(line)
    return Prepared(shards + conversion.shards, config.fps)


def _list_chosen(paths: Sequence[Path], camera: str | None) -> list[tuple[Chosen, str]]:
    """Return all videos in order, with what is chosen of them, and the names that they have in reports."""
    require_camera(paths, camera)
    found: list[tuple[Chosen, str]] = []
    for path in paths:
        inside = read_listed(path, camera)
        if inside is None:
            files = list_files(path, VIDEO_SUFFIXES, deep=True) if path.is_dir() else [path]
            require_outside(path, files)
            inside = [Chosen(file) for file in files if is_video(file)]
        folder = path if path.is_dir() else path.parent
        found += [(chosen, Path(os.path.relpath(chosen.path, folder)).as_posix()) for chosen in inside]
    if not found:
        raise ValueError(
            f"videos must name files or folders of videos (*{', *'.join(VIDEO_SUFFIXES)}), got {[*map(str, paths)]}"
        )
    if len({name for _, name in found}) < len(found):
        found = [(chosen, chosen.path.as_posix()) for chosen, _ in found]
    twice = [name for name, number in Counter(name for _, name in found).items() if number > 1]
    if twice:
        raise ValueError(f"videos must be named once, got {twice[0]} twice")
    return found


def _settle_rate(config: ConvertConfig, videos: Sequence[Chosen], indices: Sequence[ClipIndex] = ()) -> ConvertConfig:
    """Return the config with the rate of manifests and of converted videos, if it has none of its own."""
    rates = {each.fps for each in videos if each.spans is not None or each.fps is not None}
    rates |= {index.settings.fps for index in indices}
    if config.fps is not None or not rates:
        return config
    require(len(rates) == 1, "frames per second of the data", sorted(map(str, rates)), "equal, if no fps is asked for")
    return replace(config, fps=rates.pop())


def _describe_files(videos: Sequence[tuple[Chosen, str]], fps: float | None) -> list[VideoFile]:
    """Return the videos as they lie on disk now, with their stretches counted at ``fps``."""
    try:
        stats = [chosen.path.stat() for chosen, _ in videos]
    except OSError as error:
        raise ValueError(f"videos must be files that exist, got {error.filename}") from error
    return [
        VideoFile(str(chosen.path), name, stat.st_size, stat.st_mtime_ns, chosen.at_rate(fps).stretches)
        for (chosen, name), stat in zip(videos, stats, strict=True)
    ]


def _read_current(files: Sequence[VideoFile], out: Path, config: ConvertConfig) -> ClipIndex | None:
    """Return the index if it is whole and that of these videos as they are now."""
    index = read_index(out)
    digest = digest_videos(files, config.settings())
    if index is None or index.digest != digest or index.report["clip_length"] != config.clip_length:
        return None
    try:
        index.check()
    except ValueError:
        return None  # what is lost is converted again
    return index


def _renew(files: Sequence[VideoFile], out: Path, config: ConvertConfig, workers: int, progress: bool) -> ClipIndex:
    """Convert what is missing and return the new index; what the folder holds stays usable until all is converted.

    Beside finished clips, new shards wait in a hidden folder.
    """
    settings, old, waiting = config.settings(), read_index(out), out / _WAITING
    shards, kept = _divide(files, settings, out, old)
    place = out if old is None else waiting
    place.mkdir(exist_ok=True)
    missing = [shard for shard in shards if shard.name not in kept]
    outcomes = {path.name: found for path, found in kept.values()} | _write(missing, place, workers, progress)
    paths = {shard.name: kept[shard.name][0] if shard.name in kept else place / shard.name for shard in shards}
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    every = [outcome for shard in shards for outcome in outcomes[shard.name]]
    index = ClipIndex(out, digest_videos(files, settings), sizes, _describe(sizes, every, config))
    _require_frames(index, config)
    for name, path in paths.items():
        os.replace(path, out / name)
    index.write()
    for path in list_files(out, [SHARD_SUFFIX]):
        if path.name not in sizes:
            path.unlink()
    shutil.rmtree(waiting, ignore_errors=True)
    return index


def _require_frames(index: ClipIndex, config: ConvertConfig) -> None:
    """Raise ``ValueError`` if videos are broken and are not to be left out, or if nothing is left."""
    broken, videos = index.report["broken"], index.report["videos"]
    if broken and config.on_broken == "stop":
        listed = "".join(f"\n{name}: {error}" for name, error in broken.items())
        skipping = "--on-broken skip leaves them out"
        raise ValueError(f"{len(broken)} of {videos} videos are broken; {skipping}:{listed}")
    if not index.report["frames"]:
        raise ValueError(f"videos must hold at least one frame, got none in {videos} files")


def _divide(
    files: Sequence[VideoFile], settings: ClipSettings, out: Path, index: ClipIndex | None
) -> tuple[list[VideoShard], dict[str, tuple[Path, list[VideoOutcome]]]]:
    """Divide the videos into shards in order, and return the file and the outcomes of each that exists, by its name."""
    places = {json.dumps(video.identity): place for place, video in enumerate(files)}
    first_of: dict[VideoShard, int] = {}
    kept: dict[str, tuple[Path, list[VideoOutcome]]] = {}
    left = set(range(len(files)))
    waiting = list_files(out / _WAITING, [SHARD_SUFFIX]) if (out / _WAITING).is_dir() else []
    for path in [*list_files(out, [SHARD_SUFFIX]), *waiting]:
        held, outcomes = _read_shard(path, settings)
        shard = VideoShard(tuple(files[places[key]] for key in held if key in places), settings)
        is_same_size = index is None or index.shards.get(path.name, path.stat().st_size) == path.stat().st_size
        if outcomes and is_same_size and shard.name == path.name and left.issuperset(places[key] for key in held):
            first_of[shard], kept[path.name] = places[held[0]], (path, outcomes)
            left.difference_update(places[key] for key in held)
    for group in _group(files, sorted(left)):
        first_of[VideoShard(tuple(files[place] for place in group), settings)] = group[0]
    return sorted(first_of, key=first_of.__getitem__), kept


def _read_shard(path: Path, settings: ClipSettings) -> tuple[list[str], list[VideoOutcome]]:
    """Return the identities as JSON and the outcomes of a shard's videos; none if it is damaged."""
    if not path.name.startswith("clips-"):
        raise ValueError(f"{path.parent} must be a folder of converted videos alone, got one with {path}")
    try:
        identities, outcomes, stored = read_video_outcomes(path)
    except ValueError:
        return [], []  # it will be converted again
    if stored != settings.to_json():
        raise ValueError(
            f"{path.parent} holds clips of the settings {stored}, but {settings.to_json()} is asked for; delete them "
            f"or choose another folder"
        )
    return [json.dumps(identity) for identity in identities], outcomes


def _group(files: Sequence[VideoFile], places: Iterable[int]) -> Iterator[list[int]]:
    """Divide the places of videos into runs of neighbours that are not too large for a shard."""
    group: list[int] = []
    size = 0
    for place in places:
        is_full = len(group) == _GROUP_VIDEOS or size + files[place].size > _GROUP_BYTES
        if group and (is_full or place != group[-1] + 1):
            yield group
            group, size = [], 0
        group.append(place)
        size += files[place].size
    if group:
        yield group


def _write(shards: Sequence[VideoShard], out: Path, workers: int, progress: bool) -> dict[str, list[VideoOutcome]]:
    """Write shards, and return what became of their videos by the shard's name."""
    work = functools.partial(VideoShard.write, folder=str(out))
    done: dict[str, list[VideoOutcome]] = {}
    total = sum(len(shard.videos) for shard in shards)
    with tqdm(total=total, unit=" videos", disable=not progress or not shards) as bar:
        processes = min(workers, len(shards))
        results = run_in_processes(work, shards, processes) if processes > 1 else ((s, work(s)) for s in shards)
        for shard, outcomes in results:
            done[shard.name] = outcomes
            bar.update(len(outcomes))
    return done


def _describe(shards: dict[str, int], outcomes: Sequence[VideoOutcome], config: ConvertConfig) -> dict[str, Any]:
    """Return the report of an index."""
    settings = config.settings()
    whole = [outcome for outcome in outcomes if not outcome.error]
    target = settings.height, settings.width, settings.fit
    fitted = Counter(describe_resize(one.height, one.width, *target) for one in whole if one.frames)
    return {
        "settings": json.loads(settings.to_json()),
        "videos": len(outcomes),
        "frames": sum(outcome.frames for outcome in whole),
        "bytes": sum(shards.values()),
        "fitted": dict(fitted.most_common()),
        "broken": {outcome.name: outcome.error for outcome in outcomes if outcome.error},
        "clip_length": config.clip_length,
        "short": {outcome.name: outcome.longest for outcome in whole if outcome.longest < config.clip_length},
    }


def describe_report(index: ClipIndex) -> list[str]:
    """Return the report of an index in lines to print."""
    report = index.report
    settings, broken, short = report["settings"], report["broken"], report["short"]
    whole, size = report["videos"] - len(broken), f"{settings['width']} x {settings['height']}"
    shards = f"{len(index.shards)} shards, {report['bytes'] / 1e6:.1f} MB"
    lines = [f"{index.folder}: {report['frames']} frames of {size} from {whole} of {report['videos']} videos, {shards}"]
    lines += [
        f"  {_count(number)}: {fitting}" for fitting, number in itertools.islice(report["fitted"].items(), _SHOWN)
    ]
    hidden = len(report["fitted"]) - _SHOWN
    lines += [f"  and {hidden} other sizes, see {index.folder / INDEX_FILE}"] if hidden > 0 else []
    named = [f"{name} ({length})" for name, length in short.items()]
    lines += _list_names(index, f"too short for a clip of {report['clip_length']} frames", named)
    return lines + _list_names(index, "broken and left out", [f"{name}: {error}" for name, error in broken.items()])


def _list_names(index: ClipIndex, what: str, names: list[str]) -> list[str]:
    more = [f"    and {len(names) - _SHOWN} more, see {index.folder / INDEX_FILE}"] if len(names) > _SHOWN else []
    return [f"  {_count(len(names))} {what}:", *(f"    {name}" for name in names[:_SHOWN]), *more] if names else []


def _count(videos: int) -> str:
    return "1 video" if videos == 1 else f"{videos} videos"
