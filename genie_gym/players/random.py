"""Players that choose at random."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from genie_gym.checks import require
from genie_gym.data.procgen import NUM_MOVES, NUM_REAL_ACTIONS

_RIGHT = np.array([6, 7, 8], dtype=np.int32)  # right with down, alone and with up


class UniformRandom:
    """A player that draws every action with equal probability at every frame."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self._rng.integers(NUM_REAL_ACTIONS, size=len(frames), dtype=np.int32)


class StickyRandom:
    """A player that repeats each action for some frames, so that it gets farther and every action has a visible effect.

    Args:
        seed: Seed of the choices.
        repeat: Probability that a game keeps its action for the next frame.
        right_bias: Probability that a new action is one of the three that go right; other new actions are
            uniform over the nine moves.

    Raises:
        ValueError: If a probability is not in [0, 1].
    """

    def __init__(self, seed: int = 0, repeat: float = 0.9, right_bias: float = 0.25) -> None:
        for field, value in (("repeat", repeat), ("right_bias", right_bias)):
            require(0 <= value <= 1, field, value, "in [0, 1]")
        self._rng = np.random.default_rng(seed)
        self._repeat, self._right_bias = repeat, right_bias
        self._actions = np.empty(0, dtype=np.int32)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        size = len(frames)
        goes_right = self._rng.random(size) < self._right_bias
        right, moves = self._rng.choice(_RIGHT, size), self._rng.integers(NUM_MOVES, size=size, dtype=np.int32)
        is_kept = self._rng.random(size) < self._repeat
        fresh = np.where(goes_right, right, moves)
        self._actions = np.where(is_kept, self._actions, fresh) if len(self._actions) == size else fresh
        return self._actions


class SpaceRandom:
    """A player of any environment that draws actions from its action space, and may repeat them.

    Args:
        space: Action space of one game.
        seed: Seed of the choices.
        repeat: Probability that a game keeps its action for the next frame.

    Raises:
        ValueError: If the probability is not in [0, 1].
    """

    def __init__(self, space: spaces.Space[Any], seed: int = 0, repeat: float = 0.0) -> None:
        require(0 <= repeat <= 1, "repeat", repeat, "in [0, 1]")
        self._space, self._seed, self._repeat = space, seed, repeat
        self._rng = np.random.default_rng(seed)
        self._fresh: spaces.Space[Any] | None = None
        self._actions: np.ndarray | None = None

    def __call__(self, views: Any) -> np.ndarray:
        if self._fresh is None:
            self._fresh = batch_space(self._space, len(views))
            self._fresh.seed(self._seed)
        actions = np.asarray(self._fresh.sample())
        if self._actions is not None:
            is_kept = self._rng.random(len(actions)) < self._repeat
            actions = np.where(is_kept.reshape(-1, *(1,) * (actions.ndim - 1)), self._actions, actions)
        self._actions = actions
        return actions
