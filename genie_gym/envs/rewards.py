"""Reward functions: users pass one to the environment, since a world learned from videos has no rewards."""

import functools
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

Rewards = np.ndarray | tuple[np.ndarray, np.ndarray]
_Reward = TypeVar("_Reward", bound=Callable[..., "Rewards"])

_logger = logging.getLogger("genie_gym")


class RewardFunction(Protocol):
    """A function that rewards a batch of transitions, each independently: rows may change places between calls.

    With an attribute ``reads_tokens = True``, as ``reads_tokens`` gives it, it gets tokens, (B, rows, columns) int32,
    in place of both frames, and no frame is decoded for it.
    """

    def __call__(self, previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray, /) -> Rewards:
        """Return the rewards of B transitions, and whether they end their episodes.

        Args:
            previous_frames: (B, H, W, 3) uint8, read-only, like ``frames``.
            latent_actions: (B,) int64 in [0, A).
            frames: (B, H, W, 3) uint8, the frames that the actions led to.

        Returns:
            (B,) finite rewards, or a pair of (B,) finite rewards and (B,) bool terminations.
        """


def reads_tokens(reward_fn: _Reward) -> _Reward:
    """Mark a reward function as one that reads tokens instead of frames, and return it; usable as a decorator."""
    reward_fn.reads_tokens = True  # type: ignore[attr-defined]
    return reward_fn


def sees_tokens(reward_fn: Callable[..., Rewards]) -> bool:
    """Return whether a reward function reads tokens instead of frames."""
    return bool(getattr(reward_fn, "reads_tokens", False))


@reads_tokens  # it reads nothing, so no frame is decoded for it
def zero_rewards(previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Rewards:
    """Return zeros; pass it as ``reward_fn`` to play without rewards and without the warning about it."""
    return np.zeros(len(frames))


@functools.cache
def announce_zero_rewards() -> None:
    """Log once per process that rewards are always 0.

    ``logging`` rather than ``warnings``: it shows by default, and does not fail where warnings are errors.
    """
    _logger.warning(
        "Genie-v0: rewards are always 0 without a reward_fn. Pass reward_fn=f with f(previous_frames, "
        "latent_actions, frames) -> rewards, or reward_fn=genie_gym.envs.zero_rewards to play without rewards."
    )


def compute_rewards(
    reward_fn: Callable[..., Rewards], previous_frames: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (B,) float64 rewards and (B,) bool terminations of ``reward_fn`` after checking them.

    Raises:
        ValueError: If it returns anything but what ``RewardFunction`` promises.
    """
    returned = reward_fn(previous_frames, latent_actions, frames)
    rewards, terminations = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    shape = (len(frames),)
    if terminations is None:
        terminations = np.zeros(shape, dtype=bool)
    rewards = _checked("rewards", rewards, shape, "biuf").astype(np.float64)
    return rewards, _checked("terminations", terminations, shape, "b").copy()


def _checked(name: str, values: object, shape: tuple[int, ...], kinds: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in kinds or array.shape != shape:
        what = "bool" if kinds == "b" else "numeric"
        raise ValueError(f"reward_fn must return {what} {name} of shape {shape}, got {array.shape} {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"reward_fn must return finite {name}, got {array}")
    return array
