"""Gymnasium's recorder of videos, also beside Procgen, which brings an old imageio-ffmpeg."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from genie_gym.data.video import read_video
from genie_gym.envs import WorldHandle, zero_rewards
from genie_gym.models.world_model import GenieWorldModel


def test_an_episode_is_recorded_as_a_video(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    kwargs = {"checkpoint": WorldHandle(tiny_world), "reward_fn": zero_rewards, "maskgit_steps": 2}
    env = gym.make("Genie-v0", render_mode="rgb_array", max_episode_steps=6, **kwargs)
    env = gym.wrappers.RecordVideo(env, str(tmp_path))
    env.reset(seed=0)
    for action in range(6):
        env.step(np.int64(action))
    env.close()
    (path,) = tmp_path.glob("*.mp4")
    assert read_video(path).shape == (7, 64, 64, 3)
