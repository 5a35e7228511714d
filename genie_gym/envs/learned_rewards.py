"""Rewards predicted by a reward model, a network trained with a few labels or from demonstrations."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.frames import to_float
from genie_gym.envs.rewards import Rewards
from genie_gym.models.reward_model import RewardModel, load_reward_model

RewardModelOrPath = RewardModel | str | os.PathLike[str]
MAX_AGREEMENT = 5.0
"""Largest absolute agreement reward: logits are clipped, so that a few confident predictions do not dominate."""


class _SharedNetwork:
    """A reward whose copies share its network: no call changes either."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_SharedNetwork":
        return self


class LearnedReward(_SharedNetwork):
    """A ``RewardFunction``: a reward and the end of the episode where a reward model predicts them.

    Args:
        reward_model: Reward model with the outputs ``reward`` and ``end``, or its folder.
        value: Reward given when the model predicts one.
        threshold: Probability from which a reward is given, and from which the episode ends.

    Raises:
        ValueError: If the reward model has other outputs, or the threshold is not in (0, 1).
    """

    def __init__(self, reward_model: RewardModelOrPath, value: float = 1.0, threshold: float = 0.5) -> None:
        require(0 < threshold < 1, "threshold", threshold, "in (0, 1)")
        self.reward_model, self.value, self.threshold = _open(reward_model, ("reward", "end")), value, threshold

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
        """Reward transitions, see ``RewardFunction``."""
        predicted = (_predict_logits(self.reward_model, previous_frames, frames).sigmoid() >= self.threshold).numpy()
        return self.value * predicted[:, 0], predicted[:, 1] | predicted[:, 0]  # in CoinRun, a reward ends the level


class AgreementReward(_SharedNetwork):
    """A ``RewardFunction``: how much more a transition resembles the demonstrations than other play.

    The reward is the logit, clipped to +-``MAX_AGREEMENT``, of a reward model trained to distinguish transitions of
    demonstrations from those of other play, as in adversarial imitation from observation (arXiv 1807.06158).

    Args:
        reward_model: Reward model with the output ``demonstration``, or its folder.

    Raises:
        ValueError: If the reward model has other outputs.
    """

    def __init__(self, reward_model: RewardModelOrPath) -> None:
        self.reward_model = _open(reward_model, ("demonstration",))

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
        """Reward transitions, see ``RewardFunction``."""
        logits = _predict_logits(self.reward_model, previous_frames, frames)[:, 0]
        return logits.clamp(-MAX_AGREEMENT, MAX_AGREEMENT).numpy().astype(np.float64)


def _open(reward_model: RewardModelOrPath, outputs: tuple[str, ...]) -> RewardModel:
    opened = reward_model if isinstance(reward_model, RewardModel) else load_reward_model(Path(reward_model))
    if opened.outputs != outputs:
        raise ValueError(f"reward_model must have the outputs {outputs}, got {opened.outputs}")
    return opened.eval()


@torch.no_grad()
def _predict_logits(reward_model: RewardModel, previous_frames: np.ndarray, frames: np.ndarray) -> Tensor:
    """Return (B, outputs) logits; a ValueError if the reward model was trained for another world's frame size."""
    size = frames.shape[1:3]
    if size != reward_model.size:
        raise ValueError(f"reward_fn must be for frames of {size}, got a reward model of {reward_model.size}")
    return reward_model(torch.stack([to_float(previous_frames), to_float(frames)], dim=1))[:, 0]
