"""Baseline of the video tokenizer: k-means over image patches."""

import torch
from torch import Tensor

from genie_gym.nn.patches import patchify, unpatchify


@torch.no_grad()
def fit_patches(videos: Tensor, patch_size: int, codes: int, seed: int, rounds: int = 20) -> Tensor:
    """Return the (codes, C p p) k-means centres of all patches (Lloyd's algorithm, Euclidean distances).

    Args:
        videos: (B, T, C, H, W) from training levels.
        patch_size: Side p of a patch in pixels.
        codes: Number of centres.
        seed: Seed of the first centres.
        rounds: Number of iterations.
    """
    generator = torch.Generator().manual_seed(seed)
    points = patchify(videos.float(), patch_size).flatten(0, 2)
    means = points[torch.randperm(len(points), generator=generator)[:codes]]
    for _ in range(rounds):
        nearest = _nearest(points, means)
        counts = torch.bincount(nearest, minlength=len(means))[:, None]
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        # A centre that is nearest to no point moves to a random one.
        spare = points[torch.randint(len(points), (len(means),), generator=generator)]
        means = torch.where(counts > 0, sums / counts.clamp(min=1), spare)
    return means


@torch.no_grad()
def cluster_patches(videos: Tensor, means: Tensor, patch_size: int) -> Tensor:
    """Return the (B, T, C, H, W) videos with every patch replaced by the nearest of the (K, C p p) means."""
    patches = patchify(videos.float(), patch_size)
    rebuilt = means[_nearest(patches.flatten(0, 2), means)].view_as(patches)
    height, width = videos.shape[-2:]
    padded = unpatchify(rebuilt, patch_size, (-(-height // patch_size), -(-width // patch_size)))
    return padded[..., :height, :width]


def _nearest(points: Tensor, means: Tensor, chunk: int = 16_384) -> Tensor:
    """Return the index of the nearest mean to each point: |x - m|^2 is least where 2 x m - |m|^2 is greatest."""
    squares = means.square().sum(dim=1)
    return torch.cat([(2 * part @ means.T - squares).argmax(dim=1) for part in points.split(chunk)])
