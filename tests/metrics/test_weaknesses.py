"""Missed goals, on scores made by hand."""

from typing import Any

from genie_gym.metrics.weaknesses import find_weaknesses

GOOD: dict[str, Any] = {
    "tokenizer": {"psnr": 28.0, "kmeans_psnr": 24.0},
    "rollout": [{"t": 1, "psnr": 21.5, "copy_last_psnr": 20.0}],
    "delta_psnr": [{"t": 4, "interval": (0.8, 2.0)}],
    "continued": {
        "prompt_frames": 3,
        "rollout": [{"t": 1, "psnr": 22.0, "copy_last_psnr": 20.0}],
        "delta_psnr": [{"t": 4, "interval": (0.9, 2.0)}],
    },
    "lam": {"direction": {"kept": 0.6}, "up": {"kept": None}},
    "consistency": {"explained": 0.7},
}


def test_a_good_world_misses_no_goal() -> None:
    assert find_weaknesses(GOOD) == []


def test_the_worst_weakness_comes_first() -> None:
    worse = {
        **GOOD,
        "tokenizer": {"psnr": 26.0, "kmeans_psnr": 24.0},  # two thirds of the goal
        "delta_psnr": [{"t": 4, "interval": (-0.1, 2.0)}],  # below zero
        "consistency": {"explained": 0.2},  # two fifths
    }
    faults = find_weaknesses(worse)
    assert [words.split(":")[0] for words in faults] == [
        "delta PSNR from one frame at t = 4",
        "latent actions",
        "tokenizer",
    ]
    assert "+2.00 dB" in faults[2]
    assert "20%" in faults[1]


def test_the_game_itself_limits_the_goal_for_motion() -> None:
    real = {"explained": 0.3}
    assert find_weaknesses({**GOOD, "consistency": {"explained": 0.16, "real": real}}) == []
    faults = find_weaknesses({**GOOD, "consistency": {"explained": 0.14, "real": real}})
    assert faults == [
        "latent actions: 14% of the motion explained, goal 15%, half of what the game's own moves explain (30%)"
    ]
