"""Rewards named by strings, which keep ``env.spec`` JSON-able, such as ``reward_fn="goal:picture.png"``."""

from typing import cast

from genie_gym.envs.goal_reward import GoalReward
from genie_gym.envs.learned_rewards import AgreementReward, LearnedReward
from genie_gym.envs.rewards import RewardFunction
from genie_gym.plugins import find_function

_NAMED_REWARDS = {"goal": GoalReward, "learned": LearnedReward, "agreement": AgreementReward}
"""Name -> reward; after the name come a colon and the path of a picture or of a reward model's folder."""


def find_reward(reward_fn: RewardFunction | str) -> RewardFunction:
    """Return the reward function that is given itself, as ``"goal:PATH"`` and the like, or as ``"module:name"``.

    Raises:
        ValueError: If it is no function, or the string names none.
    """
    if isinstance(reward_fn, str):
        name, _, path = reward_fn.partition(":")
        if name in _NAMED_REWARDS:
            return cast(RewardFunction, _NAMED_REWARDS[name](path))
    return cast(RewardFunction, find_function("reward_fn", reward_fn))
