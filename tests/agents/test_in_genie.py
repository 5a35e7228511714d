"""A latent policy plays inside a world as it is: its actions are the world's."""

from pathlib import Path

import gymnasium as gym
import numpy as np

import genie_gym  # noqa: F401
from agents.acting import PolicyMemory
from agents.policy import LatentPolicy
from tests.agents.small import SMALL


def test_a_latent_policy_plays_in_genie(tiny_checkpoint: Path) -> None:
    envs = gym.make_vec("Genie-v0", num_envs=3, checkpoint=str(tiny_checkpoint), max_episode_steps=4)
    policy = LatentPolicy(SMALL, int(envs.single_action_space.n)).eval()  # type: ignore[attr-defined]
    memory = PolicyMemory(policy, 3, np.random.default_rng(0))
    frames, _ = envs.reset(seed=0)
    starts, truncations = np.ones(3, dtype=bool), 0
    for _ in range(10):
        latent_actions, _ = memory.choose(np.arange(3), frames, starts)
        frames, _, terminated, truncated, _ = envs.step(latent_actions)
        starts = terminated | truncated
        truncations += int(starts.sum())
    envs.close()
    assert truncations >= 3
