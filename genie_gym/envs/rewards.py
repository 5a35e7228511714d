"""Where rewards come from: a function of the user's, since a world learned from videos has none."""

import functools
import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np

Rewards = np.ndarray | tuple[np.ndarray, np.ndarray]

logger = logging.getLogger("genie_gym")


class RewardFunction(Protocol):
    """Judges transitions, all rows at once and each by itself: rows do not keep their place between calls."""

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray, /) -> Rewards:
        """Rewards of B transitions, and whether they end their episodes.

        Args:
            previous_frames: (B, H, W, 3) uint8; not to be written to, like ``frames``.
            latent_actions: (B,) int64 in [0, A).
            frames: (B, H, W, 3) uint8, what the actions led to.

        Returns:
            (B,) finite rewards, or the pair of those and (B,) bool terminations.
        """


def zero_rewards(previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
    """No rewards, on purpose: pass it as ``reward_fn`` and nobody is reminded that they are always 0."""
    return np.zeros(len(frames))


@functools.cache
def announce_zero_rewards() -> None:
    """Say once a process, on stderr, that rewards are 0.

    Through ``logging`` and not ``warnings``: it shows by default, and stops nobody who turns warnings to errors.
    """
    logger.warning(
        "Genie-v0: rewards are always 0 without a reward_fn. Pass reward_fn=f with f(previous_frames, "
        "latent_actions, frames) -> rewards, or reward_fn=genie_gym.envs.zero_rewards to play without."
    )


def judge(
    reward_fn: Callable[..., Rewards], previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Call ``reward_fn`` and hold it to its word.

    Returns:
        (B,) float64 rewards and (B,) bool terminations.

    Raises:
        ValueError: If it returns anything else than ``RewardFunction`` says.
    """
    judgement = reward_fn(previous_frames, latent_actions, frames)
    rewards, terminations = judgement if isinstance(judgement, tuple) and len(judgement) == 2 else (judgement, None)
    shape = (len(frames),)
    if terminations is None:
        terminations = np.zeros(shape, dtype=bool)
    return _checked("rewards", rewards, shape, "biuf").astype(np.float64), _checked(
        "terminations", terminations, shape, "b"
    ).copy()


def _checked(name: str, values: object, shape: tuple[int, ...], kinds: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in kinds or array.shape != shape:
        what = "bool" if kinds == "b" else "numeric"
        raise ValueError(f"reward_fn must return {what} {name} of shape {shape}, got {array.shape} {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"reward_fn must return finite {name}, got {array}")
    return array
