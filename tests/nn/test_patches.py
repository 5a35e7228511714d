"""Frames to patches and back."""

import pytest
import torch

from genie_gym.nn.patches import patchify, unpatchify


@pytest.mark.parametrize(("height", "width", "patch"), [(16, 16, 4), (12, 20, 4), (92, 160, 4), (8, 24, 8)])
def test_there_and_back(height: int, width: int, patch: int) -> None:
    videos = torch.rand(2, 3, 3, height, width)
    patches = patchify(videos, patch)
    grid = (height // patch, width // patch)
    assert patches.shape == (3, 2, grid[0] * grid[1], 3 * patch**2)
    assert torch.equal(unpatchify(patches, patch, grid), videos)
    assert torch.equal(patchify(unpatchify(patches, patch, grid), patch), patches)


def test_patches_run_row_by_row() -> None:
    videos = torch.arange(2 * 4 * 6.0).reshape(1, 2, 1, 4, 6)
    patches = patchify(videos, 2)
    assert torch.equal(patches[1, 0, 4], videos[0, 1, 0, 2:4, 2:4].flatten())
