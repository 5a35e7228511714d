"""A world as a Gymnasium environment: ``Genie-v0``, as a single environment or natively batched."""

from genie_gym.envs.genie_env import GenieEnv
from genie_gym.envs.genie_vector_env import GenieVectorEnv
from genie_gym.envs.goal_reward import GoalReward
from genie_gym.envs.learned_rewards import AgreementReward, LearnedReward
from genie_gym.envs.rewards import RewardFunction, reads_tokens, zero_rewards
from genie_gym.envs.state import EnvState
from genie_gym.envs.worlds import WorldHandle

__all__ = [
    "AgreementReward",
    "EnvState",
    "GenieEnv",
    "GenieVectorEnv",
    "GoalReward",
    "LearnedReward",
    "RewardFunction",
    "WorldHandle",
    "reads_tokens",
    "zero_rewards",
]
