"""A small network that tells whether CoinRun's player is in the middle of a frame, where the camera keeps it."""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from genie_gym.data.procgen import FRAME_SIZE
from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.nn.layers import Linear
from genie_gym.nn.weights import load_half

_WEIGHTS = Path(__file__).parent.parent / "weights" / "metrics" / "player_detector.safetensors"
VIEW_SIZE = 16
"""Side in pixels of the square in the middle of a frame that the detector looks at."""
_WIDTHS, _FEATURES = (16, 32, 32), 64
_LEAST_LOGIT = 1.75
"""Logit above which the player counts as seen; it separates frames of the world labelled by eye better than 0."""
_CHUNK = 1024
"""Frames looked at at once."""


class PlayerDetector(nn.Module):
    """A network that maps the middle of a frame to a logit of whether the player is drawn there."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImpalaEncoder(3, _WIDTHS, _FEATURES, (VIEW_SIZE, VIEW_SIZE))
        self.out = Linear(_FEATURES, 1)

    def forward(self, views: Tensor) -> Tensor:
        """Return logits (M,) of views (M, 3, ``VIEW_SIZE``, ``VIEW_SIZE``) in [0, 1]."""
        pixels = (views - 0.5).contiguous(memory_format=torch.channels_last)
        return self.out(self.encoder(pixels))[:, 0]

    @torch.no_grad()
    def sees_player(self, frames: Tensor) -> Tensor:
        """Return (...) bool: whether the player is drawn in the middle of (..., 3, 64, 64) frames in [0, 1].

        Raises:
            ValueError: If the frames have another size.
        """
        if tuple(frames.shape[-3:]) != (3, FRAME_SIZE, FRAME_SIZE):
            raise ValueError(f"frames must be (..., 3, {FRAME_SIZE}, {FRAME_SIZE}), got {tuple(frames.shape)}")
        first = (FRAME_SIZE - VIEW_SIZE) // 2
        views = frames[..., first : first + VIEW_SIZE, first : first + VIEW_SIZE].reshape(-1, 3, VIEW_SIZE, VIEW_SIZE)
        return torch.cat([self(part.float()) for part in views.split(_CHUNK)]).reshape(frames.shape[:-3]) > _LEAST_LOGIT


@functools.lru_cache(maxsize=2)
def load_detector(path: Path = _WEIGHTS) -> PlayerDetector:
    """Load the shipped detector, frozen, once; ``ValueError`` if its weights are damaged or of another network."""
    return load_half(PlayerDetector(), path)
