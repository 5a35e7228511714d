"""A picture as the goal: rewards for coming nearer, and an end on arrival."""

import numpy as np

from genie_gym.envs.prompts import Prompt, fit_prompt
from genie_gym.envs.rewards import Rewards

SQUARES = 8
"""Pictures are compared by the mean colours of so many squares a side, so that a little shift changes little."""


class GoalReward:
    """A ``RewardFunction``: how much nearer each transition came to a goal picture, and ``bonus`` on arrival.

    Distances are root mean squares of differences in colour, in [0, 1], between blurred pictures. Rewards on the way
    sum to the distance covered, so that going to and fro earns nothing (potential-based shaping, Ng et al. 1999).

    Args:
        goal: A picture, as ``prompt`` is given.
        threshold: Distance at which the goal counts as reached and the episode ends.
        bonus: Reward for that.
        scale: Of the rewards on the way.

    Raises:
        ValueError: Naming the argument and the value.
    """

    def __init__(self, goal: Prompt, threshold: float = 0.05, bonus: float = 1.0, scale: float = 1.0) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {threshold!r}")
        for name, value in (("bonus", bonus), ("scale", scale)):
            if not np.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value!r}")
        self.goal, self.threshold, self.bonus, self.scale = goal, threshold, bonus, scale
        self._blurred = _blur(fit_prompt(goal, 16 * SQUARES, 16 * SQUARES, longest=1, field="goal").frames)

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
        """See ``RewardFunction``."""
        before, now = self.measure(previous_frames), self.measure(frames)
        is_there = now < self.threshold
        return self.scale * (before - now) + self.bonus * is_there, is_there

    def measure(self, frames: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 -> (B,) distances to the goal."""
        return np.sqrt(np.square(_blur(frames) - self._blurred).mean(axis=(1, 2, 3)))


def _blur(frames: np.ndarray) -> np.ndarray:
    """(B, H, W, 3) uint8 -> (B, SQUARES, SQUARES, 3) float64 in [0, 1]: mean colours."""
    rows, columns = (np.arange(SQUARES) * side // SQUARES for side in frames.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(frames.astype(np.float64), rows, axis=1), columns, axis=2)
    heights, widths = (
        np.diff(np.append(each, side)) for each, side in zip((rows, columns), frames.shape[1:3], strict=True)
    )
    return sums / (heights[:, None] * widths)[:, :, None] / 255
