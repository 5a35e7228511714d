"""Drivers: policies that play in a person's place, from the last frames and latent actions to the next one."""

from typing import Protocol, cast

import numpy as np

from genie_gym.plugins import build_from_spec

DRIVER_FRAMES = 16
"""Largest number of frames that a driver is given."""


class Driver(Protocol):
    """A policy without state, so that one serves all visitors and steps can be undone."""

    def __call__(self, frames: np.ndarray, latent_actions: np.ndarray, /) -> int:
        """Choose the next latent action.

        Args:
            frames: (T, H, W, 3) uint8, the last frames of an episode, oldest first; T in 1..``DRIVER_FRAMES``.
            latent_actions: (T - 1,) int64; entry t led from frame t to t + 1.
        """


def load_driver(spec: str, seed: int = 0) -> Driver:
    """Build the driver that ``FILE.py:FACTORY(ARGUMENTS)`` names; the factory is passed ``seed=`` if it accepts one.

    Raises:
        ValueError: If there is no such factory.
    """
    return cast(Driver, build_from_spec("policy", spec, {}, seed=seed))
