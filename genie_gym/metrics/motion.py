"""Motion of the image, and of the player that its camera follows."""

import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel

_REACH = 10
"""Largest shift in pixels that is searched in each direction."""
_CHUNK, _DECIMALS = 64, 9
"""Pairs of images compared at once, and decimals of their mean squared differences."""


def estimate_shifts(before: Tensor, after: Tensor, reach: int = _REACH) -> Tensor:
    """Return the (B, 2) int64 shifts, rows down and columns right, at which the overlaps of two images differ least.

    Among shifts that differ equally, the smallest is returned.

    Args:
        before: (B, C, H, W) images.
        after: (B, C, H, W) images some time later.
        reach: Largest shift to search in each direction, less than half of a side.
    """
    shifts = [(row, column) for row in range(-reach, reach + 1) for column in range(-reach, reach + 1)]
    shifts.sort(key=lambda shift: shift[0] ** 2 + shift[1] ** 2)  # argmin takes the first of equals
    found = []
    for old, new in zip(before.split(_CHUNK), after.split(_CHUNK), strict=True):
        found.append(_compare_overlaps(old.double(), new.double(), torch.tensor(shifts), reach).argmin(dim=1))
    return torch.tensor(shifts)[torch.cat(found)]


def _compare_overlaps(old: Tensor, new: Tensor, shifts: Tensor, reach: int) -> Tensor:
    """Return the (B, S) mean squared differences of the overlaps of images at (S, 2) shifts.

    The square of a difference is multiplied out: sums of squares come from summed-area tables, products from a Fourier
    transform, padded so that nothing wraps around. This takes a third of the time of comparing shift by shift.
    """
    height, width = old.shape[-2:]
    rows, columns = shifts.unbind(dim=1)
    padded = tuple(-(-(side + reach) // 16) * 16 for side in (height, width))  # sides that are fast to transform
    spectrum = torch.fft.rfft2(old, padded).conj() * torch.fft.rfft2(new, padded)
    products = torch.fft.irfft2(spectrum.sum(dim=1), padded)[:, rows % padded[0], columns % padded[1]]
    squares = [F.pad(images.square().sum(dim=1), (1, 0, 1, 0)).cumsum(dim=1).cumsum(dim=2) for images in (old, new)]
    energy = torch.zeros_like(products)
    for table, sign in zip(squares, (-1, 1), strict=True):  # what leaves the old image on one side enters on the other
        top, left = (sign * rows).clamp(min=0), (sign * columns).clamp(min=0)
        bottom, right = height - (-sign * rows).clamp(min=0), width - (-sign * columns).clamp(min=0)
        energy += table[:, bottom, right] - table[:, top, right] - table[:, bottom, left] + table[:, top, left]
    overlap = old.shape[1] * (height - rows.abs()) * (width - columns.abs())
    return ((energy - 2 * products) / overlap).round(decimals=_DECIMALS)  # equal shifts stay equal


def track_player(videos: Tensor) -> Tensor:
    """Return how far the player has gone since the first frame, in pixels right and up: (..., T, 2) float64.

    The camera keeps the player in the middle, so the level moves across the frame the other way. The shifts between
    consecutive frames are added up.

    Args:
        videos: (..., T, C, H, W) with T of 2 or more.
    """
    before, after = (frames.flatten(0, -4) for frames in (videos[..., :-1, :, :, :], videos[..., 1:, :, :, :]))
    shifts = estimate_shifts(before, after).view(*videos.shape[:-4], -1, 2)
    moved = torch.stack([-shifts[..., 1], shifts[..., 0]], dim=-1).double().cumsum(dim=-2)
    return F.pad(moved, (0, 0, 1, 0))


@torch.no_grad()
def play_each_action(world: GenieWorldModel, prompts: Tensor, frames: int, seed: int) -> Tensor:
    """Hold every latent action from every start frame, with the same sampling seeds for all actions.

    Args:
        world: World model in eval mode.
        prompts: (M, P, C, H, W) float in [0, 1].
        frames: Number of frames for which each action is held.
        seed: Seed of the roll-outs.

    Returns:
        (A, M, 1 + frames, C, H, W): the tokenizer's reconstruction of the last prompt frame, then generated frames.
    """
    rolled = []
    for action in range(world.config.num_latent_actions):
        held = torch.full((len(prompts), frames), action, dtype=torch.int64)
        rolled.append(world.rollout(prompts, held, seed)[:, -1 - frames :].cpu())
    return torch.stack(rolled)


def explain_motion(displacements: Tensor) -> dict[str, Tensor]:
    """Return the share of the motion's variance along x and y that the action explains, () or (R,) each.

    The share is omega squared: about 0 for a world that ignores its actions, 1 if the action alone determines the
    motion, and 0 if nothing moves.

    Args:
        displacements: (A, M, 2) or (A, R, M, 2) pixels right and up, by action and start.
    """
    values = displacements.double()
    groups, size = values.shape[0], values.shape[-2]
    total = (values - values.mean(dim=(0, -2), keepdim=True)).square().sum(dim=(0, -2))
    within = (values - values.mean(dim=-2, keepdim=True)).square().sum(dim=(0, -2))
    noise = within / (groups * (size - 1))
    shares = (total - within - (groups - 1) * noise) / (total + noise)
    x, y = torch.where(total > 0, shares, 0.0).unbind(dim=-1)
    return {"x_explained": x, "y_explained": y}
