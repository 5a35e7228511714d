"""Metrics against values worked out by hand, on worlds whose scores are known."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.controllability import bootstrap_interval, delta_psnr, play_clips
from genie_gym.metrics.evaluate import evaluate, score_frame, score_latent_actions
from genie_gym.metrics.image import pooled_psnr, psnr
from genie_gym.models.world_model import GenieWorldModel


class ScriptedWorld:
    """Brightness is the state, a latent action adds to it; labels are read off exactly."""

    config = SimpleNamespace(num_latent_actions=4)
    device = torch.device("cpu")
    steps = torch.tensor([0.0, 0.01, 0.02, 0.03])

    def label(self, videos: Tensor) -> Tensor:
        change = (videos[:, 1:] - videos[:, :-1]).mean(dim=(2, 3, 4))
        return (change / 0.01).round().long()

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int, maskgit_steps: int | None = None) -> Tensor:
        added = self.steps[latent_actions].cumsum(dim=1)[:, :, None, None, None]
        return torch.cat([prompts, prompts[:, -1:] + added], dim=1)


class CopyingWorld(ScriptedWorld):
    """Ignores its latent actions and repeats the prompt."""

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int, maskgit_steps: int | None = None) -> Tensor:
        return torch.cat([prompts, prompts[:, -1:].expand(-1, latent_actions.shape[1], -1, -1, -1)], dim=1)


def clips(seed: int = 0) -> Tensor:
    latent_actions = torch.randint(4, (24, 15), generator=torch.Generator().manual_seed(seed))
    return ScriptedWorld().rollout(torch.full((24, 1, 3, 16, 16), 0.2), latent_actions, 0)


def play(world: Any) -> Any:
    return play_clips(world, clips(seed=1), seed=0)


def test_psnr_by_hand() -> None:
    dark, light = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    light[0] += 0.1
    assert psnr(dark, light).tolist() == pytest.approx([20.0, 100.0], abs=1e-4)
    assert pooled_psnr(dark, light) == pytest.approx(-10 * math.log10(0.01 / 2), abs=1e-4)


def test_a_world_that_obeys_scores_far_above_random_actions() -> None:
    played = play(ScriptedWorld())
    assert torch.allclose(played.inferred, played.real, atol=1e-5)
    assert delta_psnr(played, 4).mean() > 20
    row = score_frame(played, 4)
    assert row["psnr"] > row["copy_last_psnr"]
    assert row["psnr"] > row["shuffled_psnr"]


def test_a_world_that_copies_scores_copy_last_and_no_control() -> None:
    played = play(CopyingWorld())
    row = score_frame(played, 8)
    assert row["psnr"] == row["copy_last_psnr"] == row["shuffled_psnr"] == row["random_psnr"]
    assert delta_psnr(played, 8).abs().max() == 0


def test_frames_count_from_the_prompt() -> None:
    longer = play_clips(ScriptedWorld(), clips(), seed=0, prompt_frames=3)  # type: ignore[arg-type]
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


def test_use_of_latent_actions_by_hand() -> None:
    labels = torch.tensor([[0] * 50 + [1] * 49 + [2]])
    scores = score_latent_actions(labels, 4)
    assert scores["shares"] == [0.5, 0.49, 0.01, 0.0]
    assert scores["used"] == 2


def test_sets_are_scored_apart_and_together(tiny_world: GenieWorldModel) -> None:
    generator = torch.Generator().manual_seed(0)
    sets = {name: torch.rand(3, 16, 3, 64, 64, generator=generator) for name in ("first", "second")}
    scores = evaluate(tiny_world, sets, sets["first"], seed=0)
    assert scores["clips"] == 6
    assert [scores["sets"][name]["clips"] for name in sets] == [3, 3]
    errors = [10 ** (-scores["sets"][name]["tokenizer"]["psnr"] / 10) for name in sets]
    assert scores["tokenizer"]["psnr"] == pytest.approx(-10 * math.log10(sum(errors) / 2), abs=1e-3)
    assert scores == evaluate(tiny_world, sets, sets["first"], seed=0)
