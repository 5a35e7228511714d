"""Frames to patches and back, and tokens to folded places and back."""

from torch import Tensor


def patchify(videos: Tensor, patch_size: int) -> Tensor:
    """(B, T, C, H, W) -> (T, B, N, C p p), patches row by row, time first."""
    batch, frames, channels, height, width = videos.shape
    rows, columns = height // patch_size, width // patch_size
    cut = videos.reshape(batch, frames, channels, rows, patch_size, columns, patch_size)
    return cut.permute(1, 0, 3, 5, 2, 4, 6).reshape(frames, batch, rows * columns, channels * patch_size**2)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of ``patchify``; ``grid`` is the rows and columns of patches in a frame."""
    (frames, batch, _, features), (rows, columns) = patches.shape, grid
    channels = features // patch_size**2
    cut = patches.reshape(frames, batch, rows, columns, channels, patch_size, patch_size)
    joined = cut.permute(1, 0, 4, 2, 5, 3, 6)
    return joined.reshape(batch, frames, channels, rows * patch_size, columns * patch_size)


def fold(features: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """(T, B, N, D) of a ``grid`` of tokens -> (T, B, N / side^2, side^2 D): squares of tokens as one place each."""
    (frames, batch, _, width), rows, columns = features.shape, grid[0] // side, grid[1] // side
    squares = features.reshape(frames, batch, rows, side, columns, side, width).transpose(3, 4)
    return squares.reshape(frames, batch, rows * columns, side**2 * width)


def unfold(places: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of ``fold``; ``grid`` is still that of tokens."""
    (frames, batch, _, width), rows, columns = places.shape, grid[0] // side, grid[1] // side
    squares = places.reshape(frames, batch, rows, columns, side, side, width // side**2).transpose(3, 4)
    return squares.reshape(frames, batch, grid[0] * grid[1], width // side**2)
