"""Players that choose at random."""

import numpy as np

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
