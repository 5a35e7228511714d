"""Clips of videos to rate and to score: stretches of equal length, each shown by a few of its frames."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genie_gym.checks import require
from genie_gym.data.frames import resize
from genie_gym.data.manifest import Chosen, Span
from genie_gym.data.sources import find_chosen, is_video
from genie_gym.data.video import iterate_video


class ShownClip(NamedTuple):
    """A stretch of a video, and some of its frames."""

    path: Path
    """Path of the video."""
    span: Span
    """First frame, and the frame after the last."""
    frames: np.ndarray
    """Frames at equal distances from the first to the last: (K, H, W, 3) uint8."""


def list_videos(paths: Iterable[Path]) -> list[Chosen]:
    """Return the videos of folders, files and manifests; ``ValueError`` if any is a shard or of a LeRobot dataset."""
    chosen = find_chosen(list(paths))
    for each in chosen:
        # A manifest would lose the ends of the episodes.
        require(is_video(each.path) and not each.are_episodes, "videos", str(each.path), "files of videos")
    return chosen


def iterate_clips(video: Chosen, clip_frames: int, shown: int, size: tuple[int, int]) -> Iterator[ShownClip]:
    """Cut a video into clips, reading it once and holding ``shown`` frames of one clip at a time.

    Args:
        video: Video, and the stretches of it to cut; what is left at the end of a stretch is dropped.
        clip_frames: Number of frames in a clip.
        shown: Number of frames K that are kept of each clip.
        size: Height and width that these are scaled to.

    Raises:
        ValueError: If the video cannot be read, or is shorter than its stretches.
    """
    require(0 < shown <= clip_frames, "shown", shown, f"in [1, {clip_frames}], the frames of a clip")
    places = {int((place + 0.5) * clip_frames / shown) for place in range(shown)}  # the middles of equal parts
    spans = ((0, sys.maxsize),) if video.spans is None else video.spans
    starts = (start for first, stop in spans for start in range(first, stop - clip_frames + 1, clip_frames))
    start, kept, number = next(starts, None), list[np.ndarray](), -1
    for number, frame in enumerate(iterate_video(video.path, video.fps)):
        if start is None:
            return
        if number - start in places:
            kept.append(resize(frame, *size))
        if number == start + clip_frames - 1:
            yield ShownClip(video.path, (start, start + clip_frames), np.stack(kept))
            start, kept = next(starts, None), []
    if video.spans is not None and start is not None:
        raise ValueError(f"{video.path}: has {number + 1} frames, and its clips end at {spans[-1][1]}")
