"""A picture as the goal: rewards for coming closer to it, and the end of the episode on arrival."""

import math

import numpy as np

from genie_gym.checks import require
from genie_gym.envs.prompts import Prompt, fit_prompt
from genie_gym.envs.rewards import Rewards

_SQUARES = 8
"""Number of squares along each side of a picture whose mean colours are compared; a small shift changes little."""


class GoalReward:
    """A ``RewardFunction``: the decrease in distance to a goal picture, plus a bonus on arrival.

    Distances are root mean square differences in colour between blurred pictures, in [0, 1]. Rewards on the way sum to
    the distance covered, so going back and forth earns nothing (potential-based shaping, Ng et al. 1999).

    Args:
        goal: Goal picture: any single frame that ``GenieEnv`` takes as its ``prompt``.
        threshold: Distance below which the goal counts as reached and the episode ends.
        bonus: Reward for reaching the goal.
        scale: Factor of the rewards on the way.

    Raises:
        ValueError: If an argument is invalid; the message names it and its value.
    """

    def __init__(self, goal: Prompt, threshold: float = 0.05, bonus: float = 1.0, scale: float = 1.0) -> None:
        require(0 < threshold < 1, "threshold", threshold, "in (0, 1)")
        require(math.isfinite(bonus), "bonus", bonus, "finite")
        require(math.isfinite(scale), "scale", scale, "finite")
        self.goal, self.threshold, self.bonus, self.scale = goal, threshold, bonus, scale
        # The size does not depend on the world, since blurring reduces goal and frames alike to 8 x 8 colours.
        self._blurred = _blur(fit_prompt(goal, 16 * _SQUARES, 16 * _SQUARES, longest=1, field="goal").frames)

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
        """Reward transitions, see ``RewardFunction``."""
        before, now = self.measure(previous_frames), self.measure(frames)
        is_there = now < self.threshold
        return self.scale * (before - now) + self.bonus * is_there, is_there

    def measure(self, frames: np.ndarray) -> np.ndarray:
        """Return the (B,) distances of (B, H, W, 3) uint8 frames to the goal."""
        return np.sqrt(np.square(_blur(frames) - self._blurred).mean(axis=(1, 2, 3)))


def _blur(frames: np.ndarray) -> np.ndarray:
    """Return mean colours: (B, H, W, 3) uint8 -> (B, _SQUARES, _SQUARES, 3) float64 in [0, 1]."""
    rows, columns = (np.arange(_SQUARES) * side // _SQUARES for side in frames.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(frames.astype(np.float64), rows, axis=1), columns, axis=2)
    heights, widths = np.diff(rows, append=frames.shape[1]), np.diff(columns, append=frames.shape[2])
    return sums / (heights[:, None] * widths)[:, :, None] / 255
