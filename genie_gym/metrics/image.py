"""Image metrics: PSNR and SSIM."""

import torch
from torch import Tensor

SSIM_WINDOW = 11
"""Side of the Gaussian window in pixels."""
SSIM_CHUNK = 1024
"""Number of frame channels processed at once, which bounds memory."""


def psnr(videos: Tensor, others: Tensor) -> Tensor:
    """Return the (...) float32 peak signal-to-noise ratios in dB of (..., C, H, W) frames in [0, 1] of equal shapes.

    The peak is 1; equal frames have 100 dB.
    """
    return _decibels((videos.float() - others.float()).square().mean(dim=(-3, -2, -1)))


def pooled_psnr(videos: Tensor, others: Tensor) -> float:
    """Return the PSNR in dB of the error over all frames together; hard frames weigh more than in a mean of PSNRs."""
    return float(_decibels((videos.float() - others.float()).square().mean()))


def ssim(videos: Tensor, others: Tensor) -> Tensor:
    """Return the (...) float32 structural similarity of (..., C, H, W) frames in [0, 1]; 1 if equal (Wang et al. 2004).

    Mean over channels and positions; Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, no padding.

    Raises:
        ValueError: If the frames are smaller than the window.
    """
    if min(videos.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"videos must be at least {SSIM_WINDOW} pixels a side, got {tuple(videos.shape[-2:])}")
    windows = [_window(size, videos.device) for size in videos.shape[-2:]]
    flat = [each.float().reshape(-1, *each.shape[-2:]).split(SSIM_CHUNK) for each in (videos, others)]
    channels = torch.cat([_channel_ssim(x, y, *windows) for x, y in zip(*flat, strict=True)])
    return channels.view(videos.shape[:-2]).mean(dim=-1)


def _channel_ssim(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the (M,) SSIM of two stacks of (M, H, W) channels."""
    products = (x, y, x * x, y * y, x * y)
    mean_x, mean_y, square_x, square_y, product = (rows @ each @ columns.T for each in products)
    squares = mean_x**2 + mean_y**2
    luminance = (2 * mean_x * mean_y + 0.01**2) / (squares + 0.01**2)
    structure = (2 * (product - mean_x * mean_y) + 0.03**2) / (square_x + square_y - squares + 0.03**2)
    return (luminance * structure).mean(dim=(-2, -1))


def moving_psnr(videos: Tensor, others: Tensor, threshold: float = 0.02) -> float:
    """Return the pooled PSNR in dB over moving pixels: those that differ from the real frame before.

    A pixel of the real (B, T, C, H, W) ``videos`` in [0, 1] differs if any channel changes by more than ``threshold``.
    The result is NaN if nothing moves.
    """
    moves = ((videos[:, 1:] - videos[:, :-1]).abs().amax(dim=2, keepdim=True) > threshold).float()
    error = ((videos[:, 1:].float() - others[:, 1:].float()).square() * moves).sum()
    pixels = moves.sum() * videos.shape[2]
    return float(_decibels(error / pixels))


def _decibels(error: Tensor) -> Tensor:
    return -10 * torch.log10(error.clamp(min=1e-10))


def _window(size: int, device: torch.device) -> Tensor:
    """Return a (size - 10, size) matrix whose rows are a Gaussian window at each position where it fits."""
    offsets = torch.arange(SSIM_WINDOW, device=device) - SSIM_WINDOW // 2
    window = torch.exp(-offsets.float().square() / (2 * 1.5**2))
    rows = torch.zeros(size - SSIM_WINDOW + 1, size, device=device)
    for first, row in enumerate(rows):
        row[first : first + SSIM_WINDOW] = window / window.sum()
    return rows
