"""Selection of clips by a classifier: every clip of a corpus is scored, and a manifest lists those that are kept."""

import functools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from genie_gym.checks import require
from genie_gym.curation.classifier import load_classifier
from genie_gym.curation.clips import ShownClip, iterate_clips
from genie_gym.data.manifest import Chosen, head_line, require_manifest, video_line
from genie_gym.nn.weights import digest_weights
from genie_gym.parallel import run_in_processes
from genie_gym.system import replace_file

logger = logging.getLogger(__name__)

_CLIPS = 32
"""Clips scored at once."""


class Selection(NamedTuple):
    """Numbers of a finished selection."""

    videos: int
    """Videos that were scored."""
    clips: int
    """Clips that were scored."""
    kept: int
    """Clips that are in the manifest."""
    short: int
    """Videos that are shorter than a clip."""
    broken: int
    """Videos that could not be read and were skipped."""


class _Scores(NamedTuple):
    """What a video came to: its kept clips, their confidences, and how many clips it has; or why it is broken."""

    kept: Chosen
    clips: int
    error: str = ""


def select_clips(
    videos: Sequence[Chosen],
    classifier: Path,
    out: Path,
    skip_broken: bool = False,
    workers: int = 1,
    device: str = "cpu",
) -> Selection:
    """Score all clips of videos and write a manifest of those that the classifier keeps.

    Each video is a line of ``OUT.part`` as soon as it is done, so that the same call after an interruption goes on. A
    video that was changed or cut otherwise since then, was broken, or was scored on another device is scored anew.

    Args:
        videos: Videos, and the stretches of them to cut into clips.
        classifier: Folder of the classifier.
        out: Manifest to write.
        skip_broken: Whether videos that cannot be read are left out with a warning, instead of ending the selection.
        workers: Number of processes.
        device: Device of the network.

    Raises:
        ValueError: If a video cannot be read, or ``OUT.part`` is damaged or of another classifier.
    """
    require_manifest(out)
    require(workers > 0, "workers", workers, "positive")
    load_classifier.cache_clear()  # the folder may hold another one by now
    loaded = load_classifier(classifier, device)
    seen = {"frames": loaded.config.frames, "height": loaded.config.height, "width": loaded.config.width}
    about = {"weights": digest_weights(loaded.network)[:16], "threshold": loaded.threshold, **seen}
    head = head_line(loaded.fps, {"made by": "genie-gym curate select", "clip_frames": loaded.clip_frames, **about})
    part = out.with_name(f"{out.name}.part")
    done = _read_part(part, head)
    keys = {video: _identify(video, out.parent, device) for video in videos}
    left = [video for video in videos if keys[video] not in done]
    work = functools.partial(_score_video, classifier=classifier, device=device)
    out.parent.mkdir(parents=True, exist_ok=True)
    with part.open("a", encoding="utf-8") as file:
        if not part.stat().st_size:
            file.write(head)
        found = run_in_processes(work, left, workers) if workers > 1 else ((video, work(video)) for video in left)
        for video, scores in tqdm(found, total=len(videos), initial=len(videos) - len(left), unit="video"):
            if scores.error and not skip_broken:
                raise ValueError(f"{scores.error}; --on-broken skip leaves such videos out")
            if scores.error:
                logger.warning("left out: %s", scores.error)
            line = "" if scores.error else video_line(scores.kept, out.parent)
            done[keys[video]] = {"video": keys[video], "clips": scores.clips, "error": scores.error, "line": line}
            file.write(json.dumps(done[keys[video]]) + "\n")
            file.flush()
    return _finish(out, part, head, [done[keys[video]] for video in videos])


def _identify(video: Chosen, folder: Path, device: str) -> str:
    """Return what a video's row in a manifest of ``folder`` depends on beside the classifier, as JSON."""
    found = video.path.stat() if video.path.exists() else None
    state = None if found is None else (found.st_size, found.st_mtime_ns)
    return json.dumps([str(video.path.resolve()), state, video.spans, video.fps, str(folder.resolve()), device])


def _finish(out: Path, part: Path, head: str, rows: Sequence[dict[str, Any]]) -> Selection:
    """Write the manifest, remove the part file, and return what was counted."""
    lines = [row["line"] for row in rows if row["line"]]
    kept = sum(len(json.loads(line)["clips"]) for line in lines)
    with replace_file(out) as temporary:
        temporary.write_text(head + "".join(lines), encoding="utf-8")
    part.unlink()
    short = sum(row["clips"] == 0 and not row["error"] for row in rows)
    clips, broken = sum(row["clips"] for row in rows), sum(bool(row["error"]) for row in rows)
    return Selection(len(lines), clips, kept, short, broken)


def _read_part(path: Path, head: str) -> dict[str, dict[str, Any]]:
    """Return the rows of an interrupted selection by video, without broken ones; a last line cut short is removed."""
    if not path.exists():
        return {}
    first, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [head]
    if first != head:
        raise ValueError(f"{path} is of another classifier: remove it to start again")
    whole = [line for line in lines if line.endswith("\n")]
    with replace_file(path) as temporary:
        temporary.write_text("".join([head, *whole]), encoding="utf-8")
    try:
        rows = {row["video"]: row for row in map(json.loads, whole)}
        return {video: row for video, row in rows.items() if not row["error"]}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it to start again") from error


def _score_video(video: Chosen, classifier: Path, device: str) -> _Scores:
    loaded = load_classifier(classifier, device)
    config, spans, confidences, clips = loaded.config, [], [], 0
    shown = iterate_clips(video.at_rate(loaded.fps), loaded.clip_frames, config.frames, (config.height, config.width))
    try:
        for batch in _batch(shown):
            clips += len(batch)
            for clip, confidence in zip(batch, loaded.rate(np.stack([each.frames for each in batch])), strict=True):
                if confidence >= loaded.threshold:
                    spans.append(clip.span)
                    confidences.append(float(confidence))
    except ValueError as error:
        return _Scores(Chosen(video.path, ()), 0, str(error))
    return _Scores(Chosen(video.path, tuple(spans), tuple(confidences)), clips)


def _batch(clips: Iterator[ShownClip]) -> Iterator[list[ShownClip]]:
    batch: list[ShownClip] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == _CLIPS:
            yield batch
            batch = []
    if batch:
        yield batch
