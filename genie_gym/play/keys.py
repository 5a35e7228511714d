"""The former place of ``genie_gym.envs.keys``, kept for one release."""

from genie_gym.envs.keys import SETTLING_STEPS, Keymap

__all__ = ["SETTLING_STEPS", "Keymap"]
