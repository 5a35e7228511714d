"""Rewards predicted by reward models, and rewards named by strings."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from genie_gym.envs import AgreementReward, GoalReward, LearnedReward, WorldHandle, zero_rewards
from genie_gym.envs.learned_rewards import MAX_AGREEMENT
from genie_gym.envs.reward_names import find_reward
from genie_gym.envs.rewards import compute_rewards
from genie_gym.models.reward_model import RewardModel, save_reward_model

FRAMES = np.zeros((3, 16, 32, 3), dtype=np.uint8)
ACTIONS = np.zeros(3, dtype=np.int64)


class ScriptedRewardModel(RewardModel):
    """A reward model that predicts given logits."""

    def __init__(self, outputs: tuple[str, ...], logits: list[list[float]]) -> None:
        super().__init__(outputs, 16, 32, channels=8)
        self.logits = torch.tensor(logits)

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        return self.logits[:, None]


def test_a_confident_prediction_rewards_and_ends_the_episode() -> None:
    reward_model = ScriptedRewardModel(("reward", "end"), [[2.0, -3.0], [-2.0, 3.0], [-2.0, 0.5]])
    rewards, ends = compute_rewards(LearnedReward(reward_model, value=10.0, threshold=0.7), FRAMES, ACTIONS, FRAMES)
    assert rewards.tolist() == [10, 0, 0]
    assert ends.tolist() == [True, True, False]  # a reward is the end of a game of CoinRun


def test_agreement_is_a_clipped_logit() -> None:
    reward_model = ScriptedRewardModel(("demonstration",), [[1.5], [-80.0], [80.0]])
    rewards, ends = compute_rewards(AgreementReward(reward_model), FRAMES, ACTIONS, FRAMES)
    assert rewards.tolist() == [1.5, -MAX_AGREEMENT, MAX_AGREEMENT]
    assert not ends.any()


def test_strings_name_the_rewards(tmp_path: Path) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / "goal.png")
    for name, outputs in (("learned", ("reward", "end")), ("agreement", ("demonstration",))):
        save_reward_model(RewardModel(outputs, 16, 32, channels=8), tmp_path / name)
    assert isinstance(find_reward(f"goal:{tmp_path / 'goal.png'}"), GoalReward)
    learned = find_reward(f"learned:{tmp_path / 'learned'}")
    assert isinstance(learned, LearnedReward)
    assert compute_rewards(learned, FRAMES, ACTIONS, FRAMES)[0].shape == (3,)
    assert isinstance(find_reward(f"agreement:{tmp_path / 'agreement'}"), AgreementReward)
    assert find_reward("genie_gym.envs.rewards:zero_rewards") is zero_rewards
    assert find_reward(zero_rewards) is zero_rewards


def test_an_environment_takes_a_named_reward_and_its_spec_stays_json_able(
    handle: WorldHandle, prompt_image: Any, tmp_path: Path
) -> None:
    Image.fromarray(prompt_image).save(tmp_path / "goal.png")
    env = gym.make("Genie-v0", checkpoint=handle, prompt=prompt_image, reward_fn=f"goal:{tmp_path / 'goal.png'}")
    env.reset(seed=0)
    assert env.step(np.int64(0))[1] != 0
    assert env.spec is not None
    assert json.dumps(env.spec.kwargs["reward_fn"])


def test_unsuitable_reward_models_are_refused(handle: WorldHandle, tmp_path: Path) -> None:
    reward_model = RewardModel(("demonstration",), 16, 32, channels=8)
    with pytest.raises(ValueError, match=r"must have the outputs \('reward', 'end'\), got \('demonstration',\)"):
        LearnedReward(reward_model)
    with pytest.raises(ValueError, match="threshold must be in"):
        LearnedReward(ScriptedRewardModel(("reward", "end"), [[0.0, 0.0]]), threshold=1.0)
    with pytest.raises(ValueError, match=r"reward model .* has no config"):
        find_reward(f"agreement:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="goal must be"):
        find_reward(f"goal:{tmp_path / 'nowhere.png'}")
    env = gym.make("Genie-v0", checkpoint=handle, reward_fn=AgreementReward(reward_model))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"must be for frames of \(8, 12\), got a reward model of \(16, 32\)"):
        env.step(np.int64(0))
