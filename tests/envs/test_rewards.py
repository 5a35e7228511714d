"""The results that a reward function may return, and those that are refused."""

from typing import Any

import numpy as np
import pytest
import torch

from genie_gym.envs.rewards import compute_rewards, zero_rewards
from genie_gym.plugins import find_function

FRAMES = np.zeros((2, 4, 4, 3), dtype=np.uint8)
ACTIONS = np.array([0, 1])


def rewards_of(returned: Any) -> tuple[list[float], list[bool]]:
    rewards, terminations = compute_rewards(lambda *seen: returned, FRAMES, ACTIONS, FRAMES)
    assert rewards.dtype == np.float64
    assert terminations.dtype == bool
    return rewards.tolist(), terminations.tolist()


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (np.array([1.5, -2.0], dtype=np.float32), ([1.5, -2.0], [False, False])),
        ([1, 2], ([1.0, 2.0], [False, False])),
        (np.array([True, False]), ([1.0, 0.0], [False, False])),
        (torch.tensor([1.0, 2.0]), ([1.0, 2.0], [False, False])),
        ((np.ones(2), np.array([True, False])), ([1.0, 1.0], [True, False])),
        (([0, 1], [False, True]), ([0.0, 1.0], [False, True])),
    ],
)
def test_rewards_and_terminations_are_accepted(returned: Any, expected: Any) -> None:
    assert rewards_of(returned) == expected


@pytest.mark.parametrize(
    ("returned", "word"),
    [
        (None, "rewards"),
        (1.0, "rewards"),
        (np.ones(3), "rewards"),
        (np.ones((2, 1)), "rewards"),
        (np.array(["a", "b"]), "rewards"),
        (np.array([1.0, np.nan]), "finite"),
        (np.array([1.0, np.inf]), "finite"),
        ((1.0, 2.0), "rewards"),
        ((np.ones(2), np.ones(2)), "terminations"),
        ((np.ones(2), True), "terminations"),
        ((np.ones(2), np.array([True])), "terminations"),
    ],
)
def test_other_results_are_refused(returned: Any, word: str) -> None:
    with pytest.raises(ValueError, match=rf"reward_fn must return .*{word}"):
        rewards_of(returned)


def test_zero_rewards_are_zero() -> None:
    assert compute_rewards(zero_rewards, FRAMES, ACTIONS, FRAMES)[0].tolist() == [0, 0]


def test_functions_are_found_by_their_names() -> None:
    assert find_function("reward_fn", "genie_gym.envs.rewards:zero_rewards") is zero_rewards
    assert find_function("reward_fn", zero_rewards) is zero_rewards
