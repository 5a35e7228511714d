"""Latent actions as a person sees them: one picture of all, and what to call them."""

from pathlib import Path

import numpy as np
import torch

from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.metrics.motion import name_actions, play_each_action
from genie_gym.models.world_model import GenieWorldModel

_SHOWN = 6
"""Starts in the picture; all tell what to call an action."""


def propose_names(world: GenieWorldModel, starts: int, frames: int, seed: int, picture: Path) -> tuple[str, ...]:
    """Hold every latent action from many of the world's start frames, draw, and name by the motion.

    Args:
        world: In eval mode, with start frames.
        starts: How many of them.
        frames: For how many each action is held.
        seed: Of the roll-outs.
        picture: PNG with a row for each action: some starts one after the other, each with its frames.

    Returns:
        A name for each latent action, as ``motion.name_actions`` has it.

    Raises:
        ValueError: If the world has too few start frames, or there are no frames to hold.
    """
    available = len(world.start_frames)
    if not 1 <= starts <= available:
        raise ValueError(f"starts must be in 1..{available}, the world's start frames, got {starts}")
    if frames < 1:
        raise ValueError(f"frames must be positive, got {frames}")
    chosen = np.linspace(0, available - 1, starts).round().astype(np.int64)
    played = play_each_action(world, to_float(world.start_frames[chosen])[:, None], frames, seed)
    names = name_actions(played)
    shown = torch.linspace(0, starts - 1, min(_SHOWN, starts)).round().long()
    titles = [f"{action} {name}" for action, name in enumerate(names)]
    write_image(picture, contact_sheet(to_uint8(played[:, shown].flatten(1, 2)), titles))
    return names
