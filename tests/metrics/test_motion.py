"""Shifts of images, and the consistency of the motion that latent actions cause."""

from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.metrics.motion import estimate_shifts, play_each_action, score_consistency


@pytest.fixture
def starts(random_videos: Any) -> Tensor:
    return random_videos(12, 1, 32, 32)


def test_shifts_are_found(random_videos: Any) -> None:
    frames = random_videos(4, 1)[:, 0]
    wanted = [(0, 0), (3, -5), (-10, 10), (0, 1)]
    moved = torch.stack([torch.roll(frame, shift, dims=(-2, -1)) for frame, shift in zip(frames, wanted, strict=True)])
    assert estimate_shifts(frames, moved).tolist() == [list(shift) for shift in wanted]
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert estimate_shifts(flat, flat).tolist() == [[0, 0]], "the smallest of equal shifts"


def test_actions_that_move_alike_explain_all_motion(shifting_world: Any, starts: Tensor) -> None:
    scores = score_consistency(play_each_action(shifting_world, starts, 3, seed=0))
    assert scores["explained"] == pytest.approx(1)
    assert scores["agreement"] == 1
    assert scores["chance"] == pytest.approx(1 / 4)
    assert [row["shift"] for row in scores["actions"]] == [[0, 6], [0, -6], [-6, 0], [0, 0]]
    assert (scores["starts"], scores["frames"]) == (12, 3)


def test_a_world_that_ignores_its_actions_explains_nothing(starts: Tensor) -> None:
    shifts = torch.randint(-4, 5, (12, 2), generator=torch.Generator().manual_seed(0)).tolist()
    moved = torch.stack([torch.roll(start[0], shift, (-2, -1)) for start, shift in zip(starts, shifts, strict=True)])
    played = torch.stack([starts[:, 0], moved], dim=1).expand(4, -1, -1, -1, -1, -1)
    scores = score_consistency(played)
    assert scores["explained"] < 0.05
    assert scores["agreement"] == scores["chance"]


def test_a_world_that_stands_still_explains_nothing(copying_world: Any, starts: Tensor) -> None:
    scores = score_consistency(play_each_action(copying_world, starts, 3, seed=0))
    assert scores["explained"] == 0
    assert scores["agreement"] == scores["chance"] == 1
