"""A latent policy plays inside a world without a mapping: its actions are the world's."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

import genie_gym  # noqa: F401
from agents.acting import PolicyMemory, latent_driver
from agents.policy import LatentPolicy, load_policy, save_policy
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


def test_a_latent_policy_drives_as_it_plays(tmp_path: Path) -> None:
    policy = LatentPolicy(SMALL, 8)
    torch.nn.init.normal_(policy.head.weight, std=3)  # far from uniform
    save_policy(policy, tmp_path)
    drive = latent_driver(str(tmp_path), seed=7)
    memory = PolicyMemory(load_policy(tmp_path), 1, np.random.default_rng(7))
    frames = np.random.default_rng(0).integers(256, size=(9, 64, 64, 3), dtype=np.uint8)
    actions: list[int] = []
    for step, frame in enumerate(frames):
        chosen, _ = memory.choose(np.array([0]), frame[None], np.array([step == 0]))
        assert drive(frames[: step + 1], np.array(actions, dtype=np.int64)) == chosen[0]
        actions.append(int(chosen[0]))
    assert len(set(actions)) > 1
