"""Distances between pictures."""

import torch
from torch import Tensor

SSIM_WINDOW = 11
"""Pixels a side."""
SSIM_CHUNK = 1024
"""Channels of frames at once."""


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


def ssim(videos: Tensor, others: Tensor) -> Tensor:
    """Structural similarity of each frame, mean over channels and places (Wang et al. 2004).

    A Gaussian window of 11 pixels and sigma 1.5, K1 0.01, K2 0.03, and only places where the window fits.

    Args:
        videos: (..., C, H, W) in [0, 1].
        others: The same shape.

    Returns:
        (...) float32, 1 where frames are equal.

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
    """(M, H, W) twice -> (M,)."""
    mean_x, mean_y, square_x, square_y, product = (_blur(each, rows, columns) for each in (x, y, x * x, y * y, x * y))
    squares = mean_x**2 + mean_y**2
    light = (2 * mean_x * mean_y + 0.01**2) / (squares + 0.01**2)
    structure = (2 * (product - mean_x * mean_y) + 0.03**2) / (square_x + square_y - squares + 0.03**2)
    return (light * structure).mean(dim=(-2, -1))


def moving_psnr(videos: Tensor, others: Tensor, threshold: float = 0.02) -> float:
    """Pooled PSNR over the pixels of frames 1.. that differ from the frame before, in dB; sprites live there.

    Args:
        videos: (B, T, C, H, W) in [0, 1], the real ones.
        others: The same shape.
        threshold: A pixel moves where any channel changes by more.

    Returns:
        dB; NaN where nothing moves.
    """
    moves = ((videos[:, 1:] - videos[:, :-1]).abs().amax(dim=2, keepdim=True) > threshold).float()
    error = ((videos[:, 1:].float() - others[:, 1:].float()).square() * moves).sum()
    pixels = moves.sum() * videos.shape[2]
    return float(-10 * torch.log10((error / pixels).clamp(min=1e-10)))


def _blur(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ pixels @ columns.T


def _window(size: int, device: torch.device) -> Tensor:
    """(size - 10, size): a Gaussian window at every place where it fits, a row each."""
    places = torch.arange(SSIM_WINDOW, device=device) - SSIM_WINDOW // 2
    window = torch.exp(-places.float().square() / (2 * 1.5**2))
    rows = torch.zeros(size - SSIM_WINDOW + 1, size, device=device)
    for first, row in enumerate(rows):
        row[first : first + SSIM_WINDOW] = window / window.sum()
    return rows
