"""Distances between pictures."""

import torch
from torch import Tensor


def psnr(videos: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame, in dB, for a peak of 1; 100 dB where frames are equal.

    Args:
        videos: (..., C, H, W) in [0, 1].
        others: The same shape.

    Returns:
        (...) float32.
    """
    error = (videos.float() - others.float()).square().mean(dim=(-3, -2, -1))
    return -10 * torch.log10(error.clamp(min=1e-10))


def pooled_psnr(videos: Tensor, others: Tensor) -> float:
    """PSNR of the mean squared error over all frames, in dB: hard frames weigh more than in a mean of PSNRs."""
    error = (videos.float() - others.float()).square().mean()
    return float(-10 * torch.log10(error.clamp(min=1e-10)))
