"""What a video distance must mind: clips made worse step by step."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Distortion = Callable[[Tensor, float], Tensor]


def add_noise(videos: Tensor, size: float) -> Tensor:
    """(B, T, C, H, W) with Gaussian noise of that spread, from one seed."""
    noise = torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    return (videos + size * noise).clamp(0, 1)


def blur(videos: Tensor, size: float) -> Tensor:
    """Every pixel the mean of a square of ``size`` pixels a side, an odd number."""
    side = int(size)
    padded = F.pad(videos.flatten(0, 1), (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, 1).unflatten(0, videos.shape[:2])


def shuffle(videos: Tensor, share: float) -> Tensor:
    """A share of the frames put in each other's places, the same in all clips."""
    order = torch.arange(videos.shape[1])
    chosen = torch.randperm(len(order), generator=torch.Generator().manual_seed(0))[: round(share * len(order))]
    order[chosen.sort().values] = order[chosen]
    return videos[:, order]


def freeze(videos: Tensor, frames: float) -> Tensor:
    """The last ``frames`` frames repeat the one before them."""
    return videos[:, torch.arange(videos.shape[1]).clamp(max=videos.shape[1] - 1 - int(frames))]


DISTORTIONS: dict[str, tuple[Distortion, tuple[float, ...]]] = {
    "noise": (add_noise, (0.03, 0.1, 0.3)),
    "blur": (blur, (3, 5, 9)),
    "shuffling": (shuffle, (0.25, 0.5, 1.0)),
    "freezing": (freeze, (5, 10, 15)),
}
"""Each with growing sizes."""
