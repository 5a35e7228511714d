"""Who may play in a person's place: a function from what was seen and done to the next latent action."""

from typing import Protocol, cast

import numpy as np

from genie_gym.plugins import build

SEEN = 16
"""Frames that a driver is shown, at most."""


class Driver(Protocol):
    """Holds nothing of a game, so that one drives many, and frames can be taken back."""

    def __call__(self, frames: np.ndarray, latent_actions: np.ndarray, /) -> int:
        """The next latent action.

        Args:
            frames: (T, H, W, 3) uint8, the last ones of a game, oldest first; T in 1..``SEEN``.
            latent_actions: (T - 1,) int64; entry t led from frame t to t + 1.
        """


def load_driver(spec: str, seed: int = 0) -> Driver:
    """The driver that ``FILE.py:FACTORY(ARGUMENTS)`` returns, which gets ``seed=`` where it takes one.

    Raises:
        ValueError: If there is no such driver.
    """
    return cast(Driver, build("policy", spec, {}, seed=seed))
