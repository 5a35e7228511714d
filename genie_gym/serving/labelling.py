"""Latent actions of video files and frames of any size."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.fitting import Fit, require_fit
from genie_gym.data.frames import check_frames, resize, to_float
from genie_gym.data.video import iterate_video
from genie_gym.models.world_model import GenieWorldModel

Video = str | os.PathLike[str] | np.ndarray | Tensor
_STRETCH = 64
"""Number of frames that are labelled at once."""


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
