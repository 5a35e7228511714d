"""Frames to patches and back, and tokens to folded places and back."""

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


def fold(features: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """(T, B, N, D) of a ``grid`` of tokens -> (T, B, N / side^2, side^2 D): squares of tokens as one place each."""
    pattern = "t b (h p w q) d -> t b (h w) (p q d)"
    return rearrange(features, pattern, h=grid[0] // side, p=side, w=grid[1] // side, q=side)


def unfold(places: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of ``fold``; ``grid`` is still that of tokens."""
    pattern = "t b (h w) (p q d) -> t b (h p w q) d"
    return rearrange(places, pattern, h=grid[0] // side, p=side, w=grid[1] // side, q=side)
