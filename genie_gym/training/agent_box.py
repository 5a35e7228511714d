"""Finding what the camera does: how far it moves, and where it keeps the agent, which does not move with the rest.

A camera that follows an agent shifts the whole picture, so that a shifted copy of one frame predicts the next nearly
everywhere. What it does not predict at the same place all the time is the agent: its poses change, and its background
moves on behind it. Nothing is found in games with a fixed camera, where the agent may be anywhere.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.configs import MovingActionConfig, WorldConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.metrics.motion import estimate_shifts

_CLIPS, _CLIP_LENGTH = 96, 9
"""Number of clips in which the agent is looked for, and the largest number of frames in each."""
_PEAK = 10.0
"""Least ratio of the largest error to the median one."""
_SHARE = 0.5
"""Share of the largest error from which a pixel belongs to the agent."""
_AGREEMENT = 0.5
"""Least overlap of the boxes found in two halves of the clips."""
_LARGEST = 0.25
"""Largest side of the box as a share of the frame's."""
_KEPT = 0.6
"""Least share of the clips in which the largest error is in the box or next to it. Where the camera keeps the agent it
was .72 to .91 (CoinRun, Ninja and Caveflyer); .29 at the place where Climber's levels begin, and .40 at Jumper's
compass."""
_NEAR = 2
"""Number of pixels around the box that are next to it."""
_USUAL = 0.99
"""Share of the transitions in which the camera moves no farther than the border is wide."""


def settle_agent_box(config: WorldConfig, dataset: ClipDataset, seed: int = 0) -> WorldConfig:
    """Return the config with ``agent_box`` and ``border`` found in the dataset, those of them that are ``find``."""
    part = config.latent_action_model
    if not isinstance(part, MovingActionConfig) or "find" not in (part.agent_box, part.border):
        return config
    clips = dataset.cut(min(_CLIP_LENGTH, dataset.clip_length))
    chosen = np.random.default_rng(seed).permutation(len(clips))[:_CLIPS]
    videos = to_float(np.stack([clips[int(number)] for number in chosen]))
    if part.agent_box == "find":
        part = replace(part, agent_box=find_agent_box(videos, part.reach))
    if part.border == "find":
        part = replace(part, border=find_camera_border(videos, part.reach))
    return replace(config, latent_action_model=part)


@torch.no_grad()
def find_camera_border(videos: Tensor, reach: int) -> int:
    """Return how far in pixels the camera moves between two frames, along either axis, but for its rare jumps.

    Arguments as for ``find_agent_box``.
    """
    shifts = estimate_shifts(videos[:, :-1].flatten(0, 1), videos[:, 1:].flatten(0, 1), reach)
    return int(shifts.abs().amax(dim=1).double().quantile(_USUAL).ceil())


@torch.no_grad()
def find_agent_box(videos: Tensor, reach: int) -> tuple[int, int, int, int] | None:
    """Return the square (top, left, height, width) in pixels where the camera keeps the agent, None if there is none.

    The connected pixels whose error is at least half of the largest one, and one pixel around them, have a box; the
    square lies in its middle and is as wide as its smaller side. Two halves of the videos have to agree on the box, and
    in most clips the largest error has to be there: a place where agents only begin is none.

    Args:
        videos: (B, T, C, H, W) float in [0, 1].
        reach: Largest shift of the picture between two frames in pixels, vertically and horizontally.
    """
    boxes = [_find_peak(average_errors(half, reach)) for half in (videos[::2], videos[1::2], videos)]
    first, second, whole = boxes
    if not (first and second and whole) or _overlap(first, second) < _AGREEMENT:
        return None
    top, left, height, width = whole
    side = min(height, width)
    box = top + (height - side) // 2, left + (width - side) // 2, side, side
    return box if _share_of_clips(videos, reach, box) >= _KEPT else None


def _share_of_clips(videos: Tensor, reach: int, box: tuple[int, int, int, int]) -> float:
    """Return the share of the clips whose largest error is in a box or next to it, of those with an error at all."""
    peaks = []
    for clip in videos.split(1):
        errors = _smooth(average_errors(clip, reach))
        if errors.max() > 0:
            peaks.append(divmod(int(errors.argmax()), errors.shape[1]))
    first, size = torch.tensor(box[:2]) - _NEAR, torch.tensor(box[2:]) + 2 * _NEAR
    offsets = torch.tensor(peaks).view(-1, 2) - first
    return float(((offsets >= 0) & (offsets < size)).all(dim=1).double().mean())


def _smooth(errors: Tensor) -> Tensor:
    """Return the mean of errors (H, W) over the 3 x 3 pixels around each; those outside the frame count as 0."""
    return F.avg_pool2d(errors[None], 3, stride=1, padding=1)[0]


def _find_peak(errors: Tensor) -> tuple[int, int, int, int] | None:
    """Return the box around the largest of errors (H, W), None if it does not stand out or is too large."""
    errors = _smooth(errors)
    peak = errors.max()
    if peak < _PEAK * errors.median():
        return None
    agent = _connected(errors >= _SHARE * peak, int(errors.argmax()))
    (top, left), (bottom, right) = agent.amin(dim=0).tolist(), agent.amax(dim=0).tolist()
    top, left, bottom, right = max(0, top - 1), max(0, left - 1), bottom + 1, right + 1
    height, width = min(bottom, errors.shape[0] - 1) + 1 - top, min(right, errors.shape[1] - 1) + 1 - left
    if height > _LARGEST * errors.shape[0] or width > _LARGEST * errors.shape[1]:
        return None
    return top, left, height, width


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return the area that two boxes share, as a share of the area that either covers."""
    sides = [min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k]) for k in (0, 1)]
    shared = max(0, sides[0]) * max(0, sides[1])
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def average_errors(videos: Tensor, reach: int) -> Tensor:
    """Return the mean squared error (H, W) at which the best shift of a whole frame predicts the next frame.

    A pixel's mean is over the transitions in which its shifted source lies inside the frame. Arguments as for
    ``find_agent_box``.
    """
    before, after = videos[:, :-1].flatten(0, 1), videos[:, 1:].flatten(0, 1)  # (M, C, H, W)
    height, width = videos.shape[-2:]
    total, count = torch.zeros(height, width), torch.zeros(height, width)
    shifts = estimate_shifts(before, after, reach)
    for row, column in shifts.unique(dim=0).tolist():
        chosen = (shifts == torch.tensor([row, column])).all(dim=1)
        target = ..., slice(max(0, row), height + min(0, row)), slice(max(0, column), width + min(0, column))
        source = ..., slice(max(0, -row), height + min(0, -row)), slice(max(0, -column), width + min(0, -column))
        errors = (after[chosen][target] - before[chosen][source]).square().mean(dim=1)  # (m, h, w)
        total[target] += errors.sum(dim=0)
        count[target] += len(errors)
    return total / count.clamp(min=1)


def _connected(mask: Tensor, start: int) -> Tensor:
    """Return the positions (M, 2) of the True pixels of (H, W) connected with the one of flat index ``start``."""
    reached = torch.zeros_like(mask).flatten()
    reached[start] = True
    reached = reached.view_as(mask)
    while True:
        grown = (F.max_pool2d(reached.float()[None], 3, stride=1, padding=1)[0] > 0) & mask
        if torch.equal(grown, reached):
            return reached.nonzero()
        reached = grown
