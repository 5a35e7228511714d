"""Names for latent actions, proposed from their motion, with a picture of all of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.metrics.motion import play_each_action, track_player
from genie_gym.models.world_model import GenieWorldModel

_LEAST_PIXELS = 3
"""Smallest distance that an action is named after."""
_LEAST_SHARE = 0.5
"""Smallest distance that an action is named after, as a share of the longest one that any action goes that way."""
_LANDED_SHARE = 0.5
"""Largest share of its height at which a rise has come down again and is a jump."""
_STILL_NAMES = ("stay", "rest", "idle", "wait")
"""Names of actions that move nothing, the stillest first."""
_SHOWN = 6
"""Number of start clips drawn; the names use all of them."""


def propose_names(world: GenieWorldModel, starts: int, frames: int, seed: int, picture: Path) -> tuple[str, ...]:
    """Hold every latent action from the world's start clips, draw a picture, and return names by ``name_actions``.

    Args:
        world: World model in eval mode that has start clips.
        starts: Number of start clips to use.
        frames: Number of frames for which each action is held.
        seed: Seed of the roll-outs.
        picture: PNG to write, a row per action: some starts side by side, each followed by its roll-out.

    Raises:
        ValueError: If ``starts`` exceeds the world's start clips, or ``frames`` is not positive.
    """
    available = len(world.start_clips)
    require(1 <= starts <= available, "starts", starts, f"in 1..{available}, the number of the world's start clips")
    require(frames > 0, "frames", frames, "positive")
    chosen = np.linspace(0, available - 1, starts).round().astype(np.int64)
    played = play_each_action(world, to_float(world.start_clips[chosen]), frames, seed)
    names = name_actions(played)
    shown = torch.linspace(0, starts - 1, min(_SHOWN, starts)).round().long()
    titles = [f"{action} {name}" for action, name in enumerate(names)]
    write_image(picture, contact_sheet(to_uint8(played[:, shown].flatten(1, 2)), titles))
    return names


def name_actions(played: Tensor) -> tuple[str, ...]:
    """Name latent actions in plain words after the way that a player goes: ``stay``, ``left``, ``jump right``, ...

    Rows are ``up``, ``jump`` (up and down again) or ``down``, columns ``left`` or ``right``. An action is named after a
    way if the median start goes at least 3 pixels that way, and half as far as under any other action. Of actions that
    go the same way, the farthest has the plain name and the next ones are ``slow`` or, if they rise, ``low``, then
    ``very slow`` and so on. All names are different and hold no digit.

    Args:
        played: (A, M, T, C, H, W) videos of every latent action held from the same M start frames, by
            ``motion.play_each_action``.
    """
    paths = track_player(played)  # (A, M, T, 2) pixels right and up
    ways = _find_ways(paths.quantile(0.5, dim=1))
    reach = paths.mean(dim=1).norm(dim=-1).amax(dim=-1)  # (A,) farthest distance from the start
    names = [""] * len(ways)
    for way in sorted(set(ways)):
        alike = [action for action, each in enumerate(ways) if each == way]
        if way:
            alike.sort(key=lambda action: -float(reach[action]))
            wanted: Sequence[str] = _grade(way, len(alike))
        else:
            alike.sort(key=lambda action: float(reach[action]))
            wanted = _STILL_NAMES
        for action, name in zip(alike, _extend(wanted, len(alike)), strict=True):
            names[action] = name
    return tuple(names)


def _find_ways(paths: Tensor) -> list[str]:
    """Return the way of each of (A, T, 2) paths in pixels right and up, such as ``jump left``; still ones have none."""
    right, height = paths[:, -1, 0], paths[:, -1, 1]
    rise = paths[..., 1].amax(dim=1)
    rises, falls = _is_far(rise), _is_far(-height)
    columns = {"left": _is_far(-right), "right": _is_far(right)}
    ways = []
    for action in range(len(paths)):
        has_landed = height[action] <= _LANDED_SHARE * rise[action]
        row = ("jump" if has_landed else "up") if rises[action] else "down" if falls[action] else ""
        column = next((name for name, is_far in columns.items() if is_far[action]), "")
        ways.append(f"{row} {column}".strip())
    return ways


def _is_far(distances: Tensor) -> Tensor:
    """Return (A,) bool: which of (A,) distances in pixels are far, also beside the longest of them."""
    return distances >= torch.clamp(_LEAST_SHARE * distances.max(), min=_LEAST_PIXELS)


def _grade(way: str, number: int) -> list[str]:
    """Return names of ``number`` actions that go the same way, the farthest first: each a degree less than the last."""
    word = "low" if way.startswith(("jump", "up")) else "slow"
    return [way, *(f"{'very ' * degree}{word} {way}" for degree in range(number - 1))]


def _extend(words: Sequence[str], number: int) -> list[str]:
    """Return ``number`` different names: the words, then each of them again after one or more ``other``."""
    return [f"{'other ' * (place // len(words))}{words[place % len(words)]}" for place in range(number)]
