"""What a world must beat."""

import torch
from torch import Tensor

from genie_gym.metrics.image import pooled_psnr
from genie_gym.nn.patches import patchify, unpatchify


@torch.no_grad()
def kmeans_psnr(fitted: Tensor, videos: Tensor, patch_size: int, codes: int, seed: int, rounds: int = 20) -> float:
    """PSNR in dB of a tokenizer without learning: every patch replaced by the nearest of ``codes`` means.

    Args:
        fitted: (B, T, C, H, W) videos whose patches are clustered (Lloyd's algorithm, Euclidean).
        videos: Videos to rebuild.
        patch_size: Pixels a side; decides the tokens a frame.
        codes: Number of means.
        seed: Of the first means.
        rounds: Passes of Lloyd's algorithm.
    """
    generator = torch.Generator().manual_seed(seed)
    points = patchify(fitted.float(), patch_size).flatten(0, 2)
    means = points[torch.randperm(len(points), generator=generator)[:codes]]
    for _ in range(rounds):
        nearest = _nearest(points, means)
        counts = torch.bincount(nearest, minlength=len(means))[:, None]
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        spare = points[torch.randint(len(points), (len(means),), generator=generator)]
        means = torch.where(counts > 0, sums / counts.clamp(min=1), spare)
    patches = patchify(videos.float(), patch_size)
    rebuilt = means[_nearest(patches.flatten(0, 2), means)].view_as(patches)
    grid = videos.shape[-2] // patch_size, videos.shape[-1] // patch_size
    return pooled_psnr(unpatchify(rebuilt, patch_size, grid), videos)


def _nearest(points: Tensor, means: Tensor, chunk: int = 16_384) -> Tensor:
    lengths = means.square().sum(dim=1)
    return torch.cat([(2 * part @ means.T - lengths).argmax(dim=1) for part in points.split(chunk)])
