"""Names for latent actions, proposed from their motion, with a picture of all of them."""

from pathlib import Path

import numpy as np
import torch

from genie_gym.checks import require
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.metrics.motion import name_actions, play_each_action
from genie_gym.models.world_model import GenieWorldModel

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
