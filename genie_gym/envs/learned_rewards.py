"""Rewards by a network that was trained to judge transitions, with a few labels or with none."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genie_gym.data.frames import to_float
from genie_gym.envs.rewards import Rewards
from genie_gym.models.reward_model import RewardModel, load_reward_model

Judge = RewardModel | str | os.PathLike[str]
LARGEST = 5.0
"""Of an agreement's logit: a judge that is sure is not asked how sure."""


class LearnedReward:
    """A ``RewardFunction``: a reward and an end where a judge says that the game would give them.

    Args:
        judge: With the outputs ``reward`` and ``end``, or the folder of one.
        value: Of a reward.
        threshold: Probability from which on it is given, and from which on an episode ends.

    Raises:
        ValueError: If the judge has other outputs, or the threshold is no probability.
    """

    def __init__(self, judge: Judge, value: float = 1.0, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {threshold!r}")
        self.judge, self.value, self.threshold = _open(judge, ("reward", "end")), value, threshold

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
        """See ``RewardFunction``."""
        is_so = (_judge(self.judge, previous_frames, frames).sigmoid() >= self.threshold).numpy()
        return self.value * is_so[:, 0], is_so[:, 1] | is_so[:, 0]


class AgreementReward:
    """A ``RewardFunction``: how much more a transition looks like the demonstrations' than like other play.

    The logit of a judge that tells the two apart, as in adversarial imitation from observation (arXiv 1807.06158).

    Args:
        judge: With the output ``demonstration``, or the folder of one.

    Raises:
        ValueError: If the judge has other outputs.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = _open(judge, ("demonstration",))

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
        """See ``RewardFunction``."""
        return _judge(self.judge, previous_frames, frames)[:, 0].clamp(-LARGEST, LARGEST).numpy().astype(np.float64)


def _open(judge: Judge, outputs: tuple[str, ...]) -> RewardModel:
    opened = judge if isinstance(judge, RewardModel) else load_reward_model(Path(judge))
    if opened.outputs != outputs:
        raise ValueError(f"judge must have the outputs {outputs}, got {opened.outputs}")
    return opened.eval()


@torch.no_grad()
def _judge(judge: RewardModel, previous_frames: np.ndarray, frames: np.ndarray) -> Tensor:
    """(B, outputs) logits.

    Raises:
        ValueError: If the frames are not of the judge's size: it is for another world.
    """
    if frames.shape[1:3] != judge.size:
        raise ValueError(f"reward_fn must be for frames of {frames.shape[1:3]}, got a judge of {judge.size}")
    return judge(torch.stack([to_float(previous_frames), to_float(frames)], dim=1))[:, 0]
