"""Frames to patches and back, positions to folded positions and back."""

import pytest
import torch

from genie_gym.nn.patches import fold, patchify, unfold, unpatchify


@pytest.mark.parametrize(("height", "width", "patch"), [(16, 16, 4), (12, 20, 4), (92, 160, 4), (8, 24, 8)])
def test_unpatchify_inverts_patchify(height: int, width: int, patch: int) -> None:
    videos = torch.rand(2, 3, 3, height, width)
    patches = patchify(videos, patch)
    grid = (height // patch, width // patch)
    assert patches.shape == (3, 2, grid[0] * grid[1], 3 * patch**2)
    assert torch.equal(unpatchify(patches, patch, grid), videos)
    assert torch.equal(patchify(unpatchify(patches, patch, grid), patch), patches)


def test_patches_are_in_row_major_order() -> None:
    videos = torch.arange(2 * 4 * 6.0).reshape(1, 2, 1, 4, 6)
    patches = patchify(videos, 2)
    assert torch.equal(patches[1, 0, 4], videos[0, 1, 0, 2:4, 2:4].flatten())


@pytest.mark.parametrize(("rows", "columns", "side"), [(8, 8, 2), (4, 6, 2), (6, 9, 3), (3, 5, 1)])
def test_unfold_inverts_fold(rows: int, columns: int, side: int) -> None:
    features = torch.rand(2, 3, rows * columns, 5)
    folded = fold(features, side, (rows, columns))
    assert folded.shape == (2, 3, rows * columns // side**2, side**2 * 5)
    assert torch.equal(unfold(folded, side, (rows, columns)), features)


def test_a_folded_position_holds_the_pixels_of_a_larger_patch() -> None:
    videos = torch.rand(1, 2, 3, 16, 24)
    folded = fold(patchify(videos, 4), 2, (4, 6))
    assert torch.equal(folded.sort(dim=-1).values, patchify(videos, 8).sort(dim=-1).values)
