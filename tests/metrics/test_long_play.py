"""Long play, and when it stops looking like the game."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.data.clips import ClipDataset
from genie_gym.metrics.held_out import ClipPool
from genie_gym.metrics.long_play import (
    HELD_FRAMES,
    LONG_PLAY_FRAMES,
    RANGE_SHARE,
    draw_held_actions,
    fit_range,
    score_long_play,
)


class ReplayingWorld:
    """Plays given videos, whatever the latent actions."""

    config = SimpleNamespace(num_latent_actions=4)

    def __init__(self, videos: Tensor) -> None:
        self.videos = videos

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int) -> Tensor:
        return torch.cat([prompts, self.videos[:, : latent_actions.shape[1]]], dim=1)


@pytest.fixture(scope="module")
def long_clips(coinrun_shards: Path) -> Tensor:
    """(24, 1 + LONG_PLAY_FRAMES, 3, 64, 64) of the real game."""
    dataset = ClipDataset(coinrun_shards, clip_length=1 + LONG_PLAY_FRAMES)
    return ClipPool(dataset, np.arange(len(dataset))).draw(24, seed=0).videos


def test_a_range_follows_the_covariance_of_its_features() -> None:
    generator = torch.Generator().manual_seed(0)
    moments = torch.randn(4000, 3, generator=generator) * torch.tensor([10.0, 1.0, 0.1]) + 5
    real_range = fit_range(moments)
    assert 1 - float(real_range.is_outside(moments).double().mean()) == pytest.approx(RANGE_SHARE, abs=1e-3)
    assert real_range.is_outside(torch.tensor([[25.0, 5, 5], [5, 25, 5], [5, 5, 7], [5, 5, 5]])).tolist() == [
        False, True, True, False,
    ]  # fmt: skip
    assert real_range.is_outside(torch.tensor([5.0, torch.nan, 5])), "NaN counts as unlike real frames"


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ValueError, match="give more clips"):
        fit_range(torch.randn(64, 64))


def test_real_frames_are_inside_the_range_and_noise_outside(long_clips: Tensor) -> None:
    starts, rest, real, separate = long_clips[:4, :1], long_clips[:4, 1:], long_clips[:8], long_clips[8:]
    scores = score_long_play(ReplayingWorld(rest), starts, real, separate, seed=0)  # type: ignore[arg-type]
    assert (scores["starts"], scores["frames"]) == (4, LONG_PLAY_FRAMES)
    assert scores["outside"] < 0.2
    assert scores["real_outside"] < 0.2
    assert np.mean(scores["outside_by_part"]) == pytest.approx(scores["outside"], abs=0.01)
    late = rest.clone()
    late[:, LONG_PLAY_FRAMES // 2 :] = torch.rand(
        late[:, LONG_PLAY_FRAMES // 2 :].shape, generator=torch.Generator().manual_seed(0)
    )
    broken = score_long_play(ReplayingWorld(late), starts, real, separate, seed=0)  # type: ignore[arg-type]
    assert broken["outside"] > scores["outside"] + 0.2
    assert min(broken["outside_by_part"][2:]) > max(broken["outside_by_part"][0], 0.4)
    assert broken["noise_outside"] > 0.4


def test_latent_actions_are_held() -> None:
    actions = draw_held_actions(3, LONG_PLAY_FRAMES, 8, seed=0)
    assert actions.shape == (3, LONG_PLAY_FRAMES)
    whole = actions[:, : LONG_PLAY_FRAMES // HELD_FRAMES * HELD_FRAMES].unflatten(1, (-1, HELD_FRAMES))
    assert (whole == whole[..., :1]).all()
    assert set(actions.unique().tolist()) == set(range(8))
    assert not torch.equal(actions, draw_held_actions(3, LONG_PLAY_FRAMES, 8, seed=1))
