"""Worlds that learn from a recording's real actions, to compare with latent ones: asked for, never by default.

A world of real actions has no latent action model. Its dynamics is trained with the action that the recording holds for
each transition; in some clips the first transitions are unknown, as are those of a prompt in play.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.configs import Preset
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES
from genie_gym.nn.ranks import draw_rows
from genie_gym.real_actions import RealActionConfig


def take_real_actions(preset: Preset, dataset: ClipDataset) -> Preset:
    """Return the preset with the recording's real actions in place of a latent action model and its training.

    Raises:
        ValueError: If the dataset is no recording of integer actions; it names the file.
    """
    space = dataset.real_action_space
    part = RealActionConfig(actions=space.number)
    world = replace(preset.world, latent_action_model=part, action_names=space.names)
    return replace(preset, world=world, action_training=None)


class RealActions:
    """The real actions of the transitions of a dataset's clips.

    Args:
        dataset: Recordings.
        number: Number of actions of the world.

    Raises:
        ValueError: If the recordings' actions are others, or none.
    """

    def __init__(self, dataset: ClipDataset, number: int) -> None:
        found = dataset.real_action_space.number
        require(found == number, "actions of the recording", found, f"the world's {number}")
        self._dataset, self._actions = dataset, dataset.real_actions()

    def __call__(self, batch: Batch) -> Tensor:
        """Return the (B, T - 1) int64 actions of a batch of the dataset's clips."""
        first = self._dataset.find_frames(batch.numbers.cpu().numpy())
        steps = np.arange(self._dataset.clip_length - 1) * self._dataset.frame_step
        return torch.from_numpy(self._actions[first[:, None] + steps]).to(batch.videos.device)


def hide_first_actions(actions: Tensor, unknown: int) -> Tensor:
    """Replace the first actions of three rows in eight of (B, T - 1), as many as a prompt has, by ``unknown``."""
    draw = partial(torch.randint, -MAX_PROMPT_FRAMES, MAX_PROMPT_FRAMES, device=actions.device)
    hidden = draw_rows(draw, (len(actions), 1))
    return actions.masked_fill(torch.arange(actions.shape[1], device=actions.device) < hidden, unknown)
