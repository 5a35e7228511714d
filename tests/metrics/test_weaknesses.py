"""Missed goals, on scores made by hand."""

from typing import Any

from genie_gym.metrics.control import CONTROL_NAMES
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
    "control": {"by_mode": {"easy": {"ratio": {key: {"interval": [0.96, 1.1]} for key in CONTROL_NAMES}}}},
}


def test_a_good_world_misses_no_goal() -> None:
    assert find_weaknesses(GOOD) == []


def test_the_worst_weakness_comes_first() -> None:
    worse = {
        **GOOD,
        "tokenizer": {"psnr": 26.0, "kmeans_psnr": 24.0},  # two thirds of the goal
        "delta_psnr": [{"t": 4, "interval": (-0.1, 2.0)}],  # below zero
        "control": {"by_mode": {"data": {"world": {"x_explained": 0.2}}}},  # two fifths
    }
    faults = find_weaknesses(worse)
    assert [words.split(":")[0] for words in faults] == [
        "delta PSNR from one frame at t = 4",
        "control, data",
        "tokenizer",
    ]
    assert "+2.00 dB" in faults[2]
    assert "20%" in faults[1]


def test_control_is_held_against_the_game() -> None:
    part = GOOD["control"]["by_mode"]["easy"]["ratio"]
    worse = {**part, "agreement_y": {"interval": [0.4, 1.2]}, "obedience_left": {"interval": None}}
    faults = find_weaknesses({**GOOD, "control": {"by_mode": {"hard": {"ratio": worse}}}})
    words = "R squared with the game along y, 40% of the game's at the lower end of the 95 % interval, goal 50%"
    assert faults == [f"control, hard: {words}"]
