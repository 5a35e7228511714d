"""How the picture moves, and whether a latent action moves it the same way from many starts."""

from typing import Any

import torch
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel

_REACH = 10
"""Pixels that a shift is looked for, up, down, left and right."""
_STILL = 1
"""Pixels that count as no motion."""
_SLOWEST = 0.5
"""Pixels a frame that earn an action the name of their direction."""


def estimate_shifts(before: Tensor, after: Tensor, reach: int = _REACH) -> Tensor:
    """How far pictures have moved: the shift at which what overlaps differs least, the smallest of equals.

    Args:
        before: (B, C, H, W).
        after: The same shape.
        reach: Pixels looked at in each direction, under half of a side.

    Returns:
        (B, 2) int64: rows down, columns to the right.
    """
    height, width = before.shape[-2:]
    places = [(row, column) for row in range(-reach, reach + 1) for column in range(-reach, reach + 1)]
    places.sort(key=lambda place: place[0] ** 2 + place[1] ** 2)
    errors = []
    for row, column in places:
        old = before[..., max(0, -row) : height - max(0, row), max(0, -column) : width - max(0, column)]
        new = after[..., max(0, row) : height - max(0, -row), max(0, column) : width - max(0, -column)]
        errors.append((old - new).square().mean(dim=(-3, -2, -1)))
    return torch.tensor(places)[torch.stack(errors, dim=1).argmin(dim=1)]


@torch.no_grad()
def play_each_action(world: GenieWorldModel, prompts: Tensor, frames: int, seed: int) -> Tensor:
    """Every latent action held from every start, with the same seeds for all.

    Args:
        world: In eval mode.
        prompts: (M, P, C, H, W) float in [0, 1].
        frames: How long each is held.
        seed: Of the roll-outs.

    Returns:
        (A, M, 1 + frames, C, H, W): the last prompt frame as the tokenizer rebuilds it, then the world's.
    """
    rolled = []
    for action in range(world.config.num_latent_actions):
        held = torch.full((len(prompts), frames), action, dtype=torch.int64)
        rolled.append(world.rollout(prompts, held, seed)[:, -1 - frames :].cpu())
    return torch.stack(rolled)


def score_consistency(played: Tensor) -> dict[str, Any]:
    """Whether a latent action means the same everywhere.

    Args:
        played: (A, M, T, C, H, W), every latent action held from the same M starts.

    Returns:
        ``starts``, ``frames``; ``explained``, the share of the motion's variance that the action explains beyond
        what the same number of random groups would (omega squared: about 0 for a world that ignores its actions,
        1 where motion follows from the action alone); ``agreement``, the mean over actions of the share of starts
        that move in the commonest of nine directions, and ``chance``, that of all played frames together;
        ``actions``, for each its mean shift in pixels (rows, columns) and agreement.
    """
    actions, starts = played.shape[:2]
    shifts = estimate_shifts(played[:, :, 0].flatten(0, 1), played[:, :, -1].flatten(0, 1)).unflatten(0, (actions, -1))
    ways = (shifts.sign() * (shifts.abs() > _STILL) + 1) @ torch.tensor([3, 1])
    agreements = [_commonest(way) for way in ways]
    rows = [
        {"action": action, "shift": [round(float(each), 2) for each in shift.double().mean(dim=0)], "agreement": share}
        for action, (shift, share) in enumerate(zip(shifts, agreements, strict=True))
    ]
    return {
        "starts": starts,
        "frames": played.shape[2] - 1,
        "explained": _explained(shifts.double()),
        "agreement": sum(agreements) / actions,
        "chance": _commonest(ways.flatten()),
        "actions": rows,
    }


def name_actions(played: Tensor) -> tuple[str, ...]:
    """Names for latent actions from the mean motion of their frames: ``still``, ``left``, ``up right``, ...

    A camera follows its player, so what scrolls to the left is a player that goes right. Actions of one direction are
    told apart by numbers, the fastest first.

    Args:
        played: (A, M, T, C, H, W), as for ``score_consistency``.
    """
    before, after = (frames.flatten(0, 2) for frames in (played[:, :, :-1], played[:, :, 1:]))
    shifts = estimate_shifts(before, after).double().unflatten(0, (len(played), -1))
    speeds = -shifts.mean(dim=1)
    ways = [" ".join(_say(row, "up", "down") + _say(column, "left", "right")) or "still" for row, column in speeds]
    names = list(ways)
    for way in {way for way in ways if ways.count(way) > 1}:
        alike = [action for action, other in enumerate(ways) if other == way]
        alike.sort(key=lambda action: -float(speeds[action].norm()))
        for number, action in enumerate(alike, start=1):
            names[action] = f"{way} {number}"
    return tuple(names)


def _say(speed: Tensor, less: str, more: str) -> list[str]:
    return [] if abs(speed) < _SLOWEST else [less if speed < 0 else more]


def _commonest(ways: Tensor) -> float:
    return float(torch.bincount(ways).max() / ways.numel())


def _explained(shifts: Tensor) -> float:
    """Omega squared of (A, M, 2) shifts grouped by their first axis; 0 where nothing moves."""
    groups, size = shifts.shape[:2]
    total = (shifts - shifts.mean(dim=(0, 1))).square().sum()
    within = (shifts - shifts.mean(dim=1, keepdim=True)).square().sum()
    noise = within / (groups * (size - 1))
    if total == 0:
        return 0.0
    return float((total - within - (groups - 1) * noise) / (total + noise))
