"""The features behind ``fvd_procgen``: a small 3D convolutional network trained on videos of Procgen games."""

import functools
import itertools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.data.procgen import FRAME_SIZE, GAMES, NUM_REAL_ACTIONS
from genie_gym.models.base import require_videos
from genie_gym.nn.weights import load_half

_WEIGHTS = Path(__file__).parent.parent / "weights" / "metrics" / "video_features.safetensors"
_FEATURES = 64
_WIDTHS = (6, 24, 48, 64, 96)
_TIME_STRIDES = (1, 2, 1, 1)
_CHANGE = 4.0
"""Scale of the change since the previous frame, a second input next to the frame itself."""
ORDERS = ("as played", "shuffled", "frozen")
"""Orders of frames that the network was trained to classify."""
_CELL = FRAME_SIZE // 16
"""Height and width of the last layer's features."""


class VideoFeatures(nn.Module):
    """A network trained to classify game, actions and frame order; metrics use the layer before its heads."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip(itertools.pairwise(_WIDTHS), _TIME_STRIDES, strict=True)
        self.layers = nn.ModuleList(nn.Conv3d(*pair, (3, 4, 4), (stride, 2, 2), padding=1) for pair, stride in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in _WIDTHS[1:])
        self.embed = nn.Linear(_WIDTHS[-1] * _CELL**2, _FEATURES)
        self.game = nn.Linear(_FEATURES, len(GAMES))
        self.order = nn.Linear(_FEATURES, len(ORDERS))
        self.action = nn.Linear(_FEATURES, NUM_REAL_ACTIONS)

    def frame_features(self, videos: Tensor) -> Tensor:
        """Return (B, T / 2, 64) features around every second frame of (B, T, 3, H, W) videos in [0, 1]."""
        frames = videos.float()
        if tuple(videos.shape[-2:]) != (FRAME_SIZE, FRAME_SIZE):
            scaled = F.interpolate(frames.flatten(0, 1), (FRAME_SIZE, FRAME_SIZE), mode="bilinear", antialias=True)
            frames = scaled.unflatten(0, videos.shape[:2])
        change = F.pad(frames[:, 1:] - frames[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        features = torch.cat([frames - 0.5, _CHANGE * change], dim=2).transpose(1, 2)  # (B, 6, T, 64, 64)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features = F.relu(norm(layer(features)))  # at last (B, 96, T / 2, 4, 4)
        return self.embed(features.transpose(1, 2).flatten(2))

    def forward(self, videos: Tensor) -> Tensor:
        """Return (B, 64) features of (B, T, 3, H, W) videos in [0, 1].

        Raises:
            ValueError: If the videos have another shape or type, or fewer than two frames.
        """
        require_videos(videos)
        if videos.shape[1] < 2:
            raise ValueError(f"videos must have at least 2 frames, got {videos.shape[1]}")
        return self.frame_features(videos).mean(dim=1)


@functools.lru_cache(maxsize=2)
def load_features(path: Path = _WEIGHTS) -> VideoFeatures:
    """Load the shipped network, frozen, once; ``ValueError`` if its weights are damaged or of another network."""
    return load_half(VideoFeatures(), path)
