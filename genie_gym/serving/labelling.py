"""Latent actions of video files and frames of any size."""

import itertools
import os
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.config import require_rate
from genie_gym.data.fitting import Fit, require_fit
from genie_gym.data.frames import check_frames, resize, to_float
from genie_gym.data.lerobot import read_lerobot
from genie_gym.data.video import iterate_video
from genie_gym.data.video_shards import cut_spans
from genie_gym.models.world_model import GenieWorldModel

Video = str | os.PathLike[str] | np.ndarray | Tensor
_STRETCH = 64
"""Number of frames that are labelled at once."""


class EpisodeLabels(NamedTuple):
    """The latent actions of an episode in a video file."""

    path: Path
    """The file."""
    start: int
    """First frame of the episode in the file, counted at the rate of reading."""
    labels: np.ndarray
    """(T - 1,) int64."""


def label_episodes(
    world: GenieWorldModel, folder: Path, camera: str | None = None, fps: float | None = None, fit: Fit = "crop"
) -> Iterator[EpisodeLabels]:
    """Infer the latent actions of a LeRobot dataset, episode by episode.

    Args:
        world: World whose latent action model labels.
        folder: Folder of the dataset.
        camera: Camera as of ``read_lerobot``.
        fps: Frames a second to read; None for the world's rate, or the dataset's if it has none.
        fit: Whether frames of another aspect ratio are cropped or padded.

    Raises:
        ValueError: If the dataset or a video of it is damaged, or an argument is invalid.
    """
    require_fit(fit)
    require_rate("fps", fps)
    height, width = world.config.height, world.config.width
    for found in read_lerobot(folder, camera):
        chosen = found.at_rate(fps or world.config.fps or found.fps)
        spans = chosen.stretches or ()
        frames = cut_spans(iterate_video(chosen.path, chosen.fps), spans, chosen.path)
        for place, episode in itertools.groupby(_count_starts(frames), key=itemgetter(0)):
            shown = (resize(frame, height, width, fit) for _, frame in episode)
            labels = list(_label_stretches(world, shown))
            yield EpisodeLabels(chosen.path, spans[place][0], np.concatenate(labels or [np.empty(0, np.int64)]))


def _count_starts(frames: Iterable[tuple[bool, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each frame with the number of its episode, given whether each is the first of one."""
    number = -1
    for is_start, frame in frames:
        number += is_start
        yield number, frame


def label_video(world: GenieWorldModel, video: Video, fps: float | None = None, fit: Fit = "crop") -> np.ndarray:
    """Infer the latent action of each transition of a video, a stretch at a time.

    Args:
        world: World whose latent action model labels.
        video: File, or (T, H, W, 3) uint8 frames, of any size and length.
        fps: Frames a second to read of a file; None for the world's rate, or each frame if it has none.
        fit: Whether frames of another aspect ratio are cropped or padded.

    Returns:
        (T - 1,) int64 in [0, A); entry t leads from frame t to t + 1.

    Raises:
        ValueError: If the video is no video, is broken or has fewer than two frames, or another argument is invalid.
    """
    require_fit(fit)
    if isinstance(video, np.ndarray | Tensor):
        check_frames("video", video, ndim=4)
        require(fps is None, "fps", fps, "left out with frames, each of which is a step")
        frames: Iterator[np.ndarray] = iter(video.cpu().numpy() if isinstance(video, Tensor) else video)
    else:
        fits = isinstance(video, str | os.PathLike)
        require(fits, "video", type(video).__name__, "a file, or (T, H, W, 3) uint8 frames")
        path = Path(video).expanduser()
        require(path.is_file(), "video", str(video), "a file that exists")
        frames = iterate_video(path, world.config.fps if fps is None else fps)
    height, width = world.config.height, world.config.width
    labels = list(_label_stretches(world, (resize(frame, height, width, fit) for frame in frames)))
    require(len(labels) > 0, "video", video, "of at least two frames")
    return np.concatenate(labels)


def _label_stretches(world: GenieWorldModel, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the latent actions of all transitions in order; a stretch is read with the frames that it depends on."""
    source, past = iter(frames), list[np.ndarray]()
    while stretch := list(itertools.islice(source, _STRETCH)):
        seen = past + stretch
        if len(seen) > 1:
            found = world.label(to_float(np.stack(seen)[None]).to(world.device))[0].cpu().numpy()
            yield found[max(len(past) - 1, 0) :]
        past = seen[-world.latent_action_model.frames_seen :]
