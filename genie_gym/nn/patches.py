"""Frames to patches and back."""

from einops import rearrange
from torch import Tensor


def patchify(videos: Tensor, patch_size: int) -> Tensor:
    """(B, T, C, H, W) -> (T, B, N, C p p), patches row by row, time first."""
    return rearrange(videos, "b t c (h p) (w q) -> t b (h w) (c p q)", p=patch_size, q=patch_size)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of ``patchify``; ``grid`` is the rows and columns of patches in a frame."""
    rows, columns = grid
    pattern = "t b (h w) (c p q) -> b t c (h p) (w q)"
    return rearrange(patches, pattern, h=rows, w=columns, p=patch_size, q=patch_size)
