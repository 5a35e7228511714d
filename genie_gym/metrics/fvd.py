"""Frechet video distance (FVD): always over our own small network, and over I3D if its weights are given.

The two are not comparable: ``fvd_procgen`` ranks worlds of Procgen games; only ``fvd`` (I3D) follows the protocol of
published numbers.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.metrics.i3d import read_i3d
from genie_gym.metrics.video_features import load_features
from genie_gym.models.base import require_videos

I3D_SIZE, I3D_FRAMES = 224, 10
"""Input of I3D: pixels a side, and the smallest number of frames."""

FeatureExtractor = Callable[[Tensor], Tensor]
"""Function from (B, T, 3, H, W) videos in [0, 1] to (B, D) features."""


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Return the Frechet distance of Gaussians fitted to two sets, ``|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2)``.

    The sets are (M, D) and (N, D) features. Covariances are unbiased. Few clips give too large a distance: compare only
    distances over equally many clips.

    Raises:
        ValueError: If a set has fewer than two rows, the widths differ, or a value is not finite.
    """
    for name, rows in (("features", features), ("others", others)):
        if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] != features.shape[1]:
            raise ValueError(f"{name} must be (2 or more, {features.shape[-1]}), got {tuple(rows.shape)}")
        if not rows.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values")
    first, second = features.double(), others.double()
    means = first.mean(dim=0), second.mean(dim=0)
    cov, other_cov = (torch.atleast_2d(rows.T.cov()) for rows in (first, second))
    # (S1 S2)^1/2 has the trace of (S1^1/2 S2 S1^1/2)^1/2, whose eigenvalues are real.
    values, vectors = torch.linalg.eigh(cov)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    crossed = torch.linalg.eigvalsh(root @ other_cov @ root).clamp(min=0).sqrt().sum()
    return float((means[0] - means[1]).square().sum() + cov.trace() + other_cov.trace() - 2 * crossed)


def procgen_features(videos: Tensor, chunk: int = 32) -> Tensor:
    """Return the (B, 64) features behind ``fvd_procgen`` of (B, T, 3, H, W) videos in [0, 1]."""
    network = load_features()
    with torch.no_grad():
        return torch.cat([network(part) for part in videos.split(chunk)])


def load_i3d(path: Path, device: str = "cpu") -> FeatureExtractor:
    """Return the feature extractor of the FVD protocol: the 400 logits of I3D.

    Args:
        path: File that ``genie-gym convert-i3d`` wrote.
        device: Torch device to compute on.

    Raises:
        ValueError: If the file is missing, damaged, or holds other weights.
    """
    network = read_i3d(path).to(device)

    @torch.no_grad()
    def extract(videos: Tensor, chunk: int = 4) -> Tensor:
        return torch.cat([network(prepare_for_i3d(part).to(device)).cpu() for part in videos.split(chunk)])

    return extract


def prepare_for_i3d(videos: Tensor) -> Tensor:
    """Scale (B, T, 3, H, W) videos in [0, 1] and crop them to their centre: (B, 3, T, 224, 224) in [-1, 1].

    Pixels are interpolated bilinearly between their centres, the shorter side to 224, as StyleGAN-V does.

    Raises:
        ValueError: If there are fewer than 10 frames.
    """
    require_videos(videos)
    if videos.shape[1] < I3D_FRAMES:
        raise ValueError(f"videos must have at least {I3D_FRAMES} frames for I3D, got {videos.shape[1]}")
    height, width = videos.shape[-2:]
    scale = I3D_SIZE / min(height, width)
    size = (max(I3D_SIZE, round(height * scale)), max(I3D_SIZE, round(width * scale)))
    frames = F.interpolate(videos.float().flatten(0, 1), size, mode="bilinear", align_corners=False)
    top, left = (size[0] - I3D_SIZE) // 2, (size[1] - I3D_SIZE) // 2
    frames = frames[..., top : top + I3D_SIZE, left : left + I3D_SIZE]
    return (frames * 2 - 1).unflatten(0, videos.shape[:2]).transpose(1, 2).contiguous()
