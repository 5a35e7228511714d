"""A task in the world whose outcome can be checked: to go right."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from agents.dream_task import DreamTask, reward_going_right, score_returns, summarize_outcome
from experiments.lib.tables.agents import tabulate_task
from genie_gym.serving import load_world
from tests.agents.small import random_frames


def test_a_level_that_scrolls_to_the_left_is_rewarded() -> None:
    wide = random_frames(1)[0].repeat(2, axis=1)
    before, left, right = (np.ascontiguousarray(wide[:, start : start + 64]) for start in (30, 33, 28))
    rewards = reward_going_right(np.stack([before] * 3), np.zeros(3), np.stack([left, right, before]))
    assert list(rewards) == [3, -2, 0]


def test_returns_are_of_whole_games(tiny_checkpoint: Path) -> None:
    world, seen = load_world(tiny_checkpoint), []

    def choose(frames: np.ndarray, is_first: bool) -> np.ndarray:
        seen.append((frames.copy(), is_first))
        return np.full(len(frames), 2)

    returns = score_returns(world, choose, episodes=3, steps=5, seed=0)
    assert returns.shape == (3,)
    assert [is_first for _, is_first in seen] == [True, False, False, False, False]
    steps = [reward_going_right(a, np.zeros(3), b) for (a, _), (b, _) in itertools.pairwise(seen)]
    last = returns - sum(steps)
    assert (np.abs(last) <= 6).all()


def test_the_baseline_is_the_best_held_action() -> None:
    played = {"ppo": [9.0, 7.0, 8.0, 8.0], "random": [0.0, 1.0], "held_0": [2.0, 2.0], "held_1": [5.0, 3.0]}
    rows = [{"method": method, "returns": each[:2]} for method, each in played.items()]
    rows.append({"method": "ppo", "returns": played["ppo"][2:]})
    outcome = summarize_outcome(rows)
    assert set(outcome) == {"ppo", "random", "held_1"}
    assert outcome["ppo"]["return"] == 8
    assert outcome["held_1"]["interval"][0] <= 4 <= outcome["held_1"]["interval"][1]


@pytest.mark.pipeline
def test_dream_task_smoke(tmp_path: Path, tiny_checkpoint: Path) -> None:
    command = DreamTask(checkpoint=str(tiny_checkpoint), out=tmp_path / "out", work=tmp_path / "work", processes=2)
    command.run()
    results = json.loads(command.json.read_text())
    methods = ["random", "ppo", "ppo_tokens", *(f"held_{action}" for action in range(8))]
    assert sorted(row["method"] for row in results["rows"]) == sorted(methods)
    assert all(len(row["returns"]) == 4 for row in results["rows"])
    alone = command.score({"method": "ppo", "seed": 0})  # its dream is over, the game is not
    assert alone["returns"] == next(row["returns"] for row in results["rows"] if row["method"] == "ppo")
    assert results["digest"]
    table = tabulate_task(results).splitlines()
    assert "64 dreamt steps" in table[0]
    assert len(table) == 4 + len(methods)
    means = [float(line.split("|")[2].split("[")[0]) for line in table[4:]]
    assert means == sorted(means, reverse=True)
