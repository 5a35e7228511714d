"""Frames to patches and back, and squares of tokens to folded positions and back."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def pad_frames(frames: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (..., C, H, W) until H and W are multiples of a number."""
    bottom, right = (-side % multiple for side in frames.shape[-2:])
    if not bottom and not right:
        return frames
    return F.pad(frames.flatten(0, -4), (0, right, 0, bottom), mode="replicate").unflatten(0, frames.shape[:-3])


def patchify(videos: Tensor, patch_size: int) -> Tensor:
    """Cut frames into patches, row by row: (B, T, C, H, W) -> (T, B, N, C p p), time first.

    Frames are padded at the bottom and the right to whole patches.
    """
    padded = pad_frames(videos, patch_size)
    return rearrange(padded, "b t c (r p) (s q) -> t b (r s) (c p q)", p=patch_size, q=patch_size)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Invert ``patchify``, but for its padding; ``grid`` is the rows and columns of patches in a frame."""
    sizes = {"r": grid[0], "s": grid[1], "p": patch_size, "q": patch_size}
    return rearrange(patches, "t b (r s) (c p q) -> b t c (r p) (s q)", **sizes)


def fold(features: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """Join each square of ``side`` x ``side`` tokens into one position: (T, B, N, D) -> (T, B, N / side^2, side^2 D).

    Args:
        features: (T, B, N, D), the tokens of a frame row by row.
        side: Tokens per side of a square.
        grid: Rows and columns of tokens.
    """
    sizes = {"r": grid[0] // side, "s": grid[1] // side, "p": side, "q": side}
    return rearrange(features, "t b (r p s q) d -> t b (r s) (p q d)", **sizes)


def unfold(positions: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """Invert ``fold``; ``grid`` is still the rows and columns of tokens."""
    sizes = {"r": grid[0] // side, "s": grid[1] // side, "p": side, "q": side}
    return rearrange(positions, "t b (r s) (p q d) -> t b (r p s q) d", **sizes)
