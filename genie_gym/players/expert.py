"""The shipped CoinRun player: a small network that imitates a trained agent, for recordings and measurements."""

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genie_gym.data.frames import to_float
from genie_gym.data.procgen import FRAME_SIZE, NUM_REAL_ACTIONS
from genie_gym.nn.convolution import StridedEncoder
from genie_gym.nn.layers import Linear
from genie_gym.nn.weights import load_half

EXPERT_WEIGHTS = Path(__file__).parent.parent / "weights" / "players" / "expert.safetensors"
_WIDTH, _FEATURES = 24, 128


class ExpertPolicy(nn.Module):
    """A network that maps one frame with Procgen's painted velocity to logits of real actions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = StridedEncoder(3, _WIDTH, _FEATURES, (FRAME_SIZE, FRAME_SIZE))
        self.out = Linear(_FEATURES, NUM_REAL_ACTIONS)

    def forward(self, videos: Tensor) -> Tensor:
        """Return logits of the real actions: (B, C, H, W) float in [0, 1] -> (B, 15)."""
        pixels = (videos - 0.5).contiguous(memory_format=torch.channels_last)
        return self.out(torch.relu(self.encoder(pixels)))


class Expert:
    """A ``Player`` that samples its actions from an ``ExpertPolicy``.

    Args:
        path: Weights of the policy, written by ``save_half``.
        seed: Seed of the sampling.

    Raises:
        ValueError: If the weights are damaged or belong to another network.
    """

    sees_velocity = True

    def __init__(self, path: Path = EXPERT_WEIGHTS, seed: int = 0) -> None:
        self._policy = _load(path)
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Choose the actions of B games that paint their velocity: (B, 64, 64, 3) uint8 -> (B,) int32."""
        probabilities = self._policy(to_float(frames)).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0].numpy().astype(np.int32)


@functools.lru_cache(maxsize=4)
def _load(path: Path) -> ExpertPolicy:
    return load_half(ExpertPolicy(), path)
