"""Metrics of scripted worlds with known scores, and values computed by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.controllability import bootstrap_interval, delta_psnr, play_clips, wilson_interval
from genie_gym.metrics.image import pooled_psnr, psnr
from genie_gym.metrics.score import score_control, score_frame


@pytest.fixture
def clips(scripted_world: Any) -> Tensor:
    latent_actions = torch.randint(4, (24, 15), generator=torch.Generator().manual_seed(1))
    return scripted_world.rollout(torch.full((24, 1, 3, 16, 16), 0.2), latent_actions, 0)


def test_psnr_by_hand() -> None:
    dark, light = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    light[0] += 0.1
    assert psnr(dark, light).tolist() == pytest.approx([20.0, 100.0], abs=1e-4)
    assert pooled_psnr(dark, light) == pytest.approx(-10 * math.log10(0.01 / 2), abs=1e-4)


def test_a_perfect_world_scores_far_above_random_actions(scripted_world: Any, clips: Tensor) -> None:
    played = play_clips(scripted_world, clips, seed=0)
    assert torch.allclose(played.inferred, played.real, atol=1e-5)
    assert delta_psnr(played, 4).mean() > 20
    row = score_frame(played, 4)
    assert row["psnr"] > row["copy_last_psnr"]
    assert row["psnr"] > row["shuffled_psnr"]


def test_a_copying_world_equals_copy_last_and_has_no_delta_psnr(copying_world: Any, clips: Tensor) -> None:
    played = play_clips(copying_world, clips, seed=0)
    row = score_frame(played, 8)
    assert row["psnr"] == row["copy_last_psnr"] == row["shuffled_psnr"] == row["random_psnr"]
    assert row["ssim"] == row["copy_last_ssim"] == row["shuffled_ssim"] == row["random_ssim"]
    assert delta_psnr(played, 8).abs().max() == 0


def test_a_world_that_ignores_actions_has_no_delta_psnr(deaf_world: Any, clips: Tensor) -> None:
    many = clips.repeat(8, 1, 1, 1, 1)
    for frame in (1, 4, 8):
        row = score_control(play_clips(deaf_world, many, seed=0), frame, seed=0)
        assert row["interval"][0] <= 0 <= row["interval"][1]
        assert row["interval"][1] - row["interval"][0] > 0


def test_frames_count_from_the_prompt(scripted_world: Any, clips: Tensor) -> None:
    longer = play_clips(scripted_world, clips, seed=0, prompt_frames=3)
    assert longer.inferred.shape == longer.real.shape
    assert torch.allclose(longer.inferred, longer.real, atol=1e-5)


def test_interval_holds_the_mean_and_narrows() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap_interval(values, seed=0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert bootstrap_interval(torch.ones(5), seed=0) == (1.0, 1.0)


def test_kmeans_rebuilds_patches_it_has_room_for() -> None:
    shades = torch.linspace(0.1, 0.9, 4).repeat_interleave(4).view(1, 4, 1, 2, 2).expand(1, 4, 3, 2, 2)
    videos = shades.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
    means = fit_patches(videos, 8, codes=64, seed=0)
    assert torch.allclose(cluster_patches(videos, means, 8), videos, atol=1e-6)
    one = fit_patches(videos, 8, codes=1, seed=0)
    assert torch.allclose(cluster_patches(videos, one, 8), videos.mean().expand_as(videos), atol=1e-6)


def test_a_wilson_interval_by_hand() -> None:
    assert wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(1.0, 24) == pytest.approx((1 / (1 + 1.96**2 / 24), 1.0))
    assert wilson_interval(0.0, 24)[0] == 0
