"""The shipped players as agents with the ``predict`` of Stable-Baselines3's models, so that loops made for those run.

``genie_gym.load_agent`` loads one by its name. Where games are recorded, players are named by specs instead
(``players.specs``).
"""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from torch import nn

from genie_gym.data.frames import check_frames
from genie_gym.data.procgen import FRAME_SIZE, NUM_REAL_ACTIONS
from genie_gym.players.networks import NetworkPlayer, load_expert_policy, load_skilled_policy


class _Shipped(NamedTuple):
    """A shipped agent."""

    about: str
    """What it is, in a line."""
    load: Callable[[], nn.Module]
    """Function that loads its network."""
    temperature: float
    """Divisor of its logits unless another is asked for."""


_SHIPPED = {
    "skilled": _Shipped("CoinRun, the best shipped player: imitation, then PPO", load_skilled_policy, 0.25),
    "expert": _Shipped("CoinRun, a weaker player by imitation, with which worlds are evaluated", load_expert_policy, 1),
}


class PretrainedAgent:
    """A shipped player of CoinRun with the ``predict`` of Stable-Baselines3's models.

    It sees single frames that show Procgen's painted velocity, as games opened with ``paint_velocity`` do. Recorded
    frames and those of a world lack it.

    Attributes:
        name: Name that it was loaded by.
        observation_space: (64, 64, 3) uint8 frames.
        action_space: The game's 15 real actions.
    """

    def __init__(self, name: str, sampling: NetworkPlayer, likeliest: NetworkPlayer) -> None:
        self.name = name
        self.observation_space = spaces.Box(0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        self.action_space = spaces.Discrete(NUM_REAL_ACTIONS)
        self._sampling, self._likeliest = sampling, likeliest

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions for frames.

        Args:
            observation: (64, 64, 3) or (B, 64, 64, 3) uint8.
            state: Returned as it is: these agents have no memory.
            episode_start: Not used, for the same reason.
            deterministic: Whether to take the likeliest actions instead of sampling them.

        Returns:
            Actions () or (B,) int64, and ``state``.

        Raises:
            ValueError: If the frames have another shape or type.
        """
        check_frames("observation", observation)
        frames = np.asarray(observation)
        if frames.shape[-3:] != self.observation_space.shape or frames.ndim not in (3, 4):
            wanted = f"({FRAME_SIZE}, {FRAME_SIZE}, 3), alone or in a batch"
            raise ValueError(f"observation must have the shape {wanted}, got {frames.shape}")
        player = self._likeliest if deterministic else self._sampling
        actions = player(frames.reshape(-1, *frames.shape[-3:])).astype(np.int64)
        return actions.reshape(frames.shape[:-3]), state


def describe_pretrained() -> dict[str, str]:
    """Return the names of the shipped agents, and what each is."""
    return {name: shipped.about for name, shipped in _SHIPPED.items()}


def load_pretrained(name: str, seed: int = 0, temperature: float | None = None) -> PretrainedAgent:
    """Load a shipped agent; see ``genie_gym.load_agent``."""
    if name not in _SHIPPED:
        meant: Any = difflib.get_close_matches(str(name), _SHIPPED) or _SHIPPED
        raise ValueError(f"there is no agent {name!r}; did you mean {' or '.join(meant)}?")
    shipped = _SHIPPED[name]
    network, divisor = shipped.load(), shipped.temperature if temperature is None else temperature
    return PretrainedAgent(name, NetworkPlayer(network, seed, divisor), NetworkPlayer(network, seed, 0))
