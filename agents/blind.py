"""Players that never look at a frame."""

from collections.abc import Sequence

import numpy as np

from agents.acting import PlayerAgent
from genie_gym.checks import require


class BlindPlayer:
    """A ``Player`` that draws every action from one distribution, given by counts or shares (R,) of its actions.

    Raises:
        ValueError: If a count is negative or all are 0.
    """

    def __init__(self, counts: Sequence[float] | np.ndarray, seed: int) -> None:
        weights = np.asarray(counts, dtype=np.float64)
        is_distribution = bool((weights >= 0).all() and weights.sum() > 0)
        require(is_distribution, "counts", counts, "0 or more, and one above 0")
        self._shares, self._rng = weights / weights.sum(), np.random.default_rng(seed)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self._rng.choice(len(self._shares), size=len(frames), p=self._shares).astype(np.int32)


def play_constant(action: int) -> PlayerAgent:
    """Return an agent that plays one real action for ever."""
    return PlayerAgent(lambda frames: np.full(len(frames), action, dtype=np.int32))
