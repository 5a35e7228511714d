"""A goal picture: coming closer is rewarded, going back and forth is not, arrival ends the episode."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from genie_gym.envs import GoalReward, WorldHandle
from genie_gym.envs.rewards import compute_rewards


def shades(*values: int) -> np.ndarray:
    return np.stack([np.full((16, 24, 3), value, dtype=np.uint8) for value in values])


ACTIONS = np.zeros(3, dtype=np.int64)


def test_coming_closer_is_rewarded_and_arrival_ends_the_episode() -> None:
    goal = GoalReward(shades(200)[0], threshold=0.1, bonus=5.0, scale=2.0)
    rewards, ends = compute_rewards(goal, shades(100, 100, 100), ACTIONS, shades(120, 80, 190))
    assert ends.tolist() == [False, False, True]
    assert rewards.tolist() == pytest.approx([2 * 20 / 255, -2 * 20 / 255, 2 * 90 / 255 + 5])
    assert goal.measure(shades(200, 149)).tolist() == pytest.approx([0, 0.2])


def test_going_back_and_forth_earns_nothing() -> None:
    rng = np.random.default_rng(0)
    way = rng.integers(256, size=(6, 16, 24, 3), dtype=np.uint8)
    way[-1] = way[0]
    goal = GoalReward(rng.integers(256, size=(16, 24, 3), dtype=np.uint8), threshold=1e-6)
    rewards, _ = compute_rewards(goal, way[:-1], np.zeros(5, dtype=np.int64), way[1:])
    assert np.abs(rewards).max() > 0
    assert rewards.sum() == pytest.approx(0)


@pytest.mark.parametrize("size", [(64, 64), (16, 24), (90, 160), (9, 13)])
def test_positions_matter(size: tuple[int, int]) -> None:
    """A picture scaled to another size is close to the goal; its mirror image is not."""
    half = np.zeros((64, 64, 3), dtype=np.uint8)
    half[:, 32:] = 255
    there = np.asarray(Image.fromarray(half).resize(size[::-1], Image.Resampling.NEAREST))
    goal = GoalReward(half)
    near, far = goal.measure(np.stack([there, there[:, ::-1]]))
    assert near < 0.25 < 0.7 < far


def test_an_environment_takes_a_goal_reward(handle: WorldHandle, prompt_image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "goal.png"
    Image.fromarray(prompt_image).save(path)
    env = gym.make("Genie-v0", checkpoint=handle, prompt=prompt_image, reward_fn=GoalReward(str(path), threshold=0.02))
    frame, _ = env.reset(seed=0)
    goal = env.unwrapped._session.reward_fn
    after, reward, *_ = env.step(np.int64(1))
    assert reward == pytest.approx(goal.measure(frame[None])[0] - goal.measure(after[None])[0])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"goal": "nowhere.png"}, "goal"),
        ({"goal": shades(1)[0], "threshold": 0.0}, "threshold"),
        ({"goal": shades(1)[0], "bonus": np.inf}, "bonus"),
        ({"goal": shades(1)[0], "scale": np.nan}, "scale"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        GoalReward(**arguments)
