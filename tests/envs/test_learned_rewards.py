"""Rewards by judges, and by name."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from genie_gym.envs import AgreementReward, GoalReward, LearnedReward, WorldHandle, zero_rewards
from genie_gym.envs.learned_rewards import LARGEST
from genie_gym.envs.reward_names import find_reward
from genie_gym.envs.rewards import judge as judge_transitions
from genie_gym.models.reward_model import RewardModel, save_reward_model

FRAMES = np.zeros((3, 16, 32, 3), dtype=np.uint8)
ACTIONS = np.zeros(3, dtype=np.int64)


class Scripted(RewardModel):
    """Says what it is told to."""

    def __init__(self, outputs: tuple[str, ...], logits: list[list[float]]) -> None:
        super().__init__(outputs, 16, 32, channels=8)
        self.logits = torch.tensor(logits)

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        return self.logits[:, None]


def test_a_sure_judge_rewards_and_ends() -> None:
    judge = Scripted(("reward", "end"), [[2.0, -3.0], [-2.0, 3.0], [-2.0, 0.5]])
    rewards, ends = judge_transitions(LearnedReward(judge, value=10.0, threshold=0.7), FRAMES, ACTIONS, FRAMES)
    assert rewards.tolist() == [10, 0, 0]
    assert ends.tolist() == [True, True, False]  # a reward is the end of a game of CoinRun


def test_agreement_is_a_bounded_logit() -> None:
    judge = Scripted(("demonstration",), [[1.5], [-80.0], [80.0]])
    rewards, ends = judge_transitions(AgreementReward(judge), FRAMES, ACTIONS, FRAMES)
    assert rewards.tolist() == [1.5, -LARGEST, LARGEST]
    assert not ends.any()


def test_names_find_them(tmp_path: Path) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / "goal.png")
    for name, outputs in (("learned", ("reward", "end")), ("agreement", ("demonstration",))):
        save_reward_model(RewardModel(outputs, 16, 32, channels=8), tmp_path / name)
    assert isinstance(find_reward(f"goal:{tmp_path / 'goal.png'}"), GoalReward)
    learned = find_reward(f"learned:{tmp_path / 'learned'}")
    assert isinstance(learned, LearnedReward)
    assert judge_transitions(learned, FRAMES, ACTIONS, FRAMES)[0].shape == (3,)
    assert isinstance(find_reward(f"agreement:{tmp_path / 'agreement'}"), AgreementReward)
    assert find_reward("genie_gym.envs.rewards:zero_rewards") is zero_rewards
    assert find_reward(zero_rewards) is zero_rewards


def test_an_environment_takes_a_name_and_stays_json_able(
    handle: WorldHandle, prompt_image: Any, tmp_path: Path
) -> None:
    Image.fromarray(prompt_image).save(tmp_path / "goal.png")
    env = gym.make("Genie-v0", checkpoint=handle, prompt=prompt_image, reward_fn=f"goal:{tmp_path / 'goal.png'}")
    env.reset(seed=0)
    assert env.step(np.int64(0))[1] != 0
    assert env.spec is not None
    assert json.dumps(env.spec.kwargs["reward_fn"])


def test_wrong_judges_are_refused(handle: WorldHandle, tmp_path: Path) -> None:
    judge = RewardModel(("demonstration",), 16, 32, channels=8)
    with pytest.raises(ValueError, match=r"judge must have the outputs \('reward', 'end'\), got \('demonstration',\)"):
        LearnedReward(judge)
    with pytest.raises(ValueError, match="threshold must be in"):
        LearnedReward(Scripted(("reward", "end"), [[0.0, 0.0]]), threshold=1.0)
    with pytest.raises(ValueError, match=r"reward model .* has no config"):
        find_reward(f"agreement:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="goal must be"):
        find_reward(f"goal:{tmp_path / 'nowhere.png'}")
    env = gym.make("Genie-v0", checkpoint=handle, reward_fn=AgreementReward(judge))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"reward_fn must be for frames of \(8, 12\), got a judge of \(16, 32\)"):
        env.step(np.int64(0))
