"""PSNR and SSIM against reference libraries and on images made by hand."""

import math

import pytest
import torch
from pytorch_msssim import ssim as reference_ssim
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio

from genie_gym.metrics.image import moving_psnr, pooled_psnr, psnr, ssim


@pytest.fixture
def pair(random_videos) -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth videos with similar structure."""
    first = torch.nn.functional.avg_pool2d(random_videos(2, 3).flatten(0, 1), 5, 1, 2).unflatten(0, (2, 3))
    return first, (first + 0.1 * random_videos(2, 3, seed=1)).clamp(0, 1)


def test_psnr_equals_torchmetrics(pair) -> None:
    first, second = pair
    reference = PeakSignalNoiseRatio(data_range=1.0)
    assert pooled_psnr(first, second) == pytest.approx(float(reference(second, first)), abs=1e-4)
    one = PeakSignalNoiseRatio(data_range=1.0)(second[1, 2], first[1, 2])
    assert float(psnr(first, second)[1, 2]) == pytest.approx(float(one), abs=1e-4)


def test_ssim_equals_both_references(pair) -> None:
    first, second = pair
    ours = ssim(first, second)
    assert ours.shape == (2, 3)
    theirs = reference_ssim(first.flatten(0, 1), second.flatten(0, 1), data_range=1.0, size_average=False)
    torch.testing.assert_close(ours.flatten(), theirs, atol=1e-5, rtol=0)
    _, everywhere = structural_similarity_index_measure(
        second.flatten(0, 1), first.flatten(0, 1), data_range=1.0, return_full_image=True
    )
    inside = everywhere[..., 5:-5, 5:-5].mean(dim=(-3, -2, -1))  # without padding
    torch.testing.assert_close(ours.flatten(), inside, atol=1e-5, rtol=0)


def test_ssim_of_equal_and_of_opposite_frames(pair) -> None:
    first, _ = pair
    torch.testing.assert_close(ssim(first, first), torch.ones(2, 3))
    assert float(ssim(first, 1 - first).max()) < 0


def test_ssim_needs_frames_as_large_as_its_window() -> None:
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.zeros(1, 3, 10, 64), torch.zeros(1, 3, 10, 64))


def test_moving_psnr_counts_moving_pixels_alone() -> None:
    videos = torch.zeros(1, 3, 3, 8, 8)
    videos[0, 1:, :, 2, 3] = 0.5  # lights up at frame 1 and stays
    others = videos.clone()
    others[0, 1, :, 2, 3] = 0.4
    others[0, 2, :, 5, 5] = 1.0  # wrong, and not moving
    assert moving_psnr(videos, others) == pytest.approx(20.0, abs=1e-4)
    assert math.isnan(moving_psnr(torch.zeros(1, 3, 3, 8, 8), others))
