"""Rewards by name, so that ``env.spec`` stays JSON-able: ``gym.make("Genie-v0", reward_fn="goal:picture.png")``."""

from typing import cast

from genie_gym.envs.functions import find_function
from genie_gym.envs.goal_reward import GoalReward
from genie_gym.envs.learned_rewards import AgreementReward, LearnedReward
from genie_gym.envs.rewards import RewardFunction

KINDS = {"goal": GoalReward, "learned": LearnedReward, "agreement": AgreementReward}
"""What stands before the colon; after it a path: of a picture, or of a judge's folder."""


def find_reward(reward_fn: RewardFunction | str) -> RewardFunction:
    """The function itself, one of ``KINDS`` from ``"kind:path"``, or the one that ``"module:name"`` names.

    Raises:
        ValueError: Naming what was wrong with it.
    """
    if isinstance(reward_fn, str):
        kind, _, path = reward_fn.partition(":")
        if kind in KINDS:
            return cast(RewardFunction, KINDS[kind](path))
    return cast(RewardFunction, find_function("reward_fn", reward_fn))
