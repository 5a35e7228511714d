"""The shipped CoinRun players, two small networks; their card is beside the weights."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genie_gym.checks import require
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import FRAME_SIZE, NUM_REAL_ACTIONS
from genie_gym.nn.convolution import ImpalaEncoder, StridedEncoder
from genie_gym.nn.layers import Linear
from genie_gym.nn.weights import load_half

_FOLDER = Path(__file__).parent.parent / "weights" / "players"


class ExpertPolicy(nn.Module):
    """A network that maps one frame with Procgen's painted velocity to logits of real actions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = StridedEncoder(3, 24, 128, (FRAME_SIZE, FRAME_SIZE))
        self.out = Linear(128, NUM_REAL_ACTIONS)

    def forward(self, videos: Tensor) -> Tensor:
        """Return logits of the real actions: (B, C, H, W) float in [0, 1] -> (B, 15)."""
        pixels = (videos - 0.5).contiguous(memory_format=torch.channels_last)
        return self.out(torch.relu(self.encoder(pixels)))


class SkilledPolicy(nn.Module):
    """A residual network that maps one frame with Procgen's painted velocity to logits of real actions."""

    widths, features, patch_size = (32, 32), 192, 4

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImpalaEncoder(3, self.widths, self.features, (FRAME_SIZE, FRAME_SIZE), self.patch_size)
        self.out = Linear(self.features, NUM_REAL_ACTIONS)

    def forward(self, videos: Tensor) -> Tensor:
        """Return logits of the real actions: (B, C, H, W) float in [0, 1] -> (B, 15)."""
        pixels = (videos - 0.5).contiguous(memory_format=torch.channels_last)
        return self.out(self.encoder(pixels))


class NetworkPlayer:
    """A ``Player`` that samples its actions from a network's probabilities, softmax(logits / temperature).

    Args:
        policy: Frozen network from frames (B, C, H, W) in [0, 1], which show the velocity, to logits (B, actions).
        seed: Seed of the sampling.
        temperature: Divisor of the logits; 0 means the likeliest action.

    Raises:
        ValueError: If the temperature is negative or not finite.
    """

    sees_velocity = True

    def __init__(self, policy: Callable[[Tensor], Tensor], seed: int = 0, temperature: float = 1.0) -> None:
        require(0 <= temperature < np.inf, "temperature", temperature, "0 or more")
        self._policy, self._temperature = policy, temperature
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Choose the actions of B games that paint their velocity: (B, 64, 64, 3) uint8 -> (B,) int32."""
        logits = self._policy(to_float(frames))
        if self._temperature == 0:
            return logits.argmax(dim=-1).numpy().astype(np.int32)
        probabilities = (logits / self._temperature).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0].numpy().astype(np.int32)


@functools.lru_cache(maxsize=4)
def load_expert_policy(path: Path = _FOLDER / "expert.safetensors") -> ExpertPolicy:
    """Return the frozen network of the player ``expert``; ValueError if the file's weights are damaged or others."""
    return load_half(ExpertPolicy(), path)


@functools.lru_cache(maxsize=4)
def load_skilled_policy(path: Path = _FOLDER / "skilled.safetensors") -> SkilledPolicy:
    """Return the frozen network of the player ``skilled``; ValueError if the file's weights are damaged or others."""
    return load_half(SkilledPolicy(), path)
