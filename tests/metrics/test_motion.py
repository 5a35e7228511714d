"""Shifts of images, and the motion that latent actions cause."""

from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.metrics.motion import estimate_shifts, explain_motion, play_each_action, track_player


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
    went = track_player(play_each_action(shifting_world, starts, 3, seed=0))
    assert went[:, 0].tolist() == [
        [[-2 * step, 0] for step in range(4)],
        [[2 * step, 0] for step in range(4)],
        [[0, -2 * step] for step in range(4)],
        [[0, 0]] * 4,
    ], "the level goes right when the player goes left, and up when it falls"
    shares = explain_motion(went[:, :, -1])
    assert float(shares["x_explained"]) == pytest.approx(1)
    assert float(shares["y_explained"]) == pytest.approx(1)


def test_shifts_do_not_wrap_around(random_videos: Any) -> None:
    """The overlap alone counts: what enters on one side differs from what leaves on the other."""
    wide = random_videos(1, 1, 64, 96)[:, 0]
    assert estimate_shifts(wide[..., 10:74], wide[..., 3:67]).tolist() == [[0, 7]]
    assert estimate_shifts(wide[..., 3:67], wide[..., 10:74]).tolist() == [[0, -7]]


def test_a_world_that_ignores_its_actions_explains_nothing() -> None:
    went = torch.randint(-9, 10, (40, 2), generator=torch.Generator().manual_seed(0)).expand(4, 40, 2)
    assert all(float(share) < 0.01 for share in explain_motion(went).values())


def test_a_world_that_stands_still_explains_nothing() -> None:
    assert [float(share) for share in explain_motion(torch.zeros(4, 6, 2)).values()] == [0, 0]


def test_the_share_explained_does_not_grow_with_the_number_of_actions() -> None:
    generator = torch.Generator().manual_seed(0)
    shares = [explain_motion(torch.randn(actions, 8, 500, 2, generator=generator))["x_explained"] for actions in (2, 8)]
    assert all(abs(float(share.mean())) < 0.005 for share in shares), "omega squared of noise is 0, unlike eta squared"
