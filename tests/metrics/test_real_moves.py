"""The real moves of CoinRun, held from the same states."""

import pytest
import torch

from genie_gym.metrics.motion import estimate_shifts
from genie_gym.metrics.real_moves import play_each_move

LEFT, STAY, RIGHT, RIGHT_UP = 1, 4, 7, 8


@pytest.fixture(scope="module")
def moves() -> torch.Tensor:
    return play_each_move("easy", "training", starts=12, frames=4, seed=0)


def test_all_moves_begin_in_the_same_states(moves: torch.Tensor) -> None:
    assert moves.shape[0] == 9
    assert moves.shape[2:] == (5, 3, 64, 64)
    assert 0 < moves.shape[1] <= 12
    assert all(torch.equal(move[:, 0], moves[0, :, 0]) for move in moves)
    assert len(moves[0, :, 0].flatten(1).unique(dim=0)) > moves.shape[1] // 2
    assert torch.equal(play_each_move("easy", "training", starts=12, frames=4, seed=0), moves)


def test_a_move_to_the_right_scrolls_the_level_to_the_left(moves: torch.Tensor) -> None:
    left, stay, right, jump = (
        estimate_shifts(moves[move, :, 0], moves[move, :, -1]).double().mean(dim=0)
        for move in (LEFT, STAY, RIGHT, RIGHT_UP)
    )
    assert right[1] < stay[1] - 1
    assert left[1] > stay[1]
    assert jump[0] > right[0] + 1
    assert not torch.equal(moves[LEFT, :, 1], moves[RIGHT, :, 1])


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must be one of"):
        play_each_move("easy", "secret", starts=1, frames=1, seed=0)
