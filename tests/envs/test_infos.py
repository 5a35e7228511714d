"""Every reset and every step give the same info keys, alone and in a vector, in every autoreset mode."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from genie_gym.envs import GenieEnv, GenieVectorEnv, WorldHandle
from genie_gym.sb3 import make_sb3_vec_env

KEYS = {"prompt_index", "world_seed"}


def test_every_step_tells_what_its_reset_told(handle: WorldHandle) -> None:
    env = GenieEnv(checkpoint=handle)
    for seed in (0, None, 3):
        _, start = env.reset(seed=seed)
        assert set(start) == KEYS
        for _ in range(3):
            info = env.step(np.int64(0))[4]
            assert info == start
            assert json.loads(json.dumps(info)) == info
            info["world_seed"] = -1  # the caller's own


@pytest.mark.parametrize("mode", AutoresetMode)
def test_every_step_of_a_vector_has_the_keys_of_a_reset(
    handle: WorldHandle, episode_ends: Any, mode: AutoresetMode
) -> None:
    envs = GenieVectorEnv(3, checkpoint=handle, reward_fn=episode_ends, max_episode_steps=4, autoreset_mode=mode)
    keys = KEYS | {f"_{key}" for key in KEYS}
    _, started = envs.reset(seed=0)
    assert set(started) == keys
    ends = 0
    for _ in range(20):
        *_, terminated, truncated, infos = envs.step(np.array([0, 1, 2]))
        ended = terminated | truncated
        ends += int(ended.sum())
        final = {"final_obs", "_final_obs", "final_info", "_final_info"}
        assert set(infos) == (keys | final if ended.any() and mode is AutoresetMode.SAME_STEP else keys)
        assert infos["_prompt_index"].all()
        assert infos["_world_seed"].all()
        if "final_info" in infos:
            assert infos["final_info"]["world_seed"][ended].tolist() == started["world_seed"][ended].tolist()
        going_on = ~ended if mode is AutoresetMode.SAME_STEP else np.ones(3, dtype=bool)
        if mode is AutoresetMode.NEXT_STEP:
            going_on &= infos["world_seed"] == started["world_seed"]  # others have just restarted
        assert (infos["world_seed"] == started["world_seed"])[going_on].all()
        started = infos
        if mode is AutoresetMode.DISABLED and ended.any():
            _, masked = envs.reset(options={"reset_mask": ended})
            assert set(masked) == keys
            assert masked["_world_seed"].tolist() == ended.tolist()
            started = {**infos, "world_seed": np.where(ended, masked["world_seed"], infos["world_seed"])}
    assert ends > 5


def test_every_step_in_sb3_has_the_keys_of_its_own_vector(handle: WorldHandle, episode_ends: Any) -> None:
    vec_env = make_sb3_vec_env(num_envs=3, checkpoint=handle, reward_fn=episode_ends, max_episode_steps=4)
    vec_env.reset()
    for _ in range(12):
        *_, dones, infos = vec_env.step(np.array([0, 1, 2]))
        for row, info in enumerate(infos):
            ended = {"terminal_observation", "episode"} if dones[row] else set()
            assert set(info) == {*KEYS, "TimeLimit.truncated", *ended}


def test_gymnasiums_statistics_take_the_infos(handle: WorldHandle) -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("Genie-v0", checkpoint=handle, max_episode_steps=3))
    env.reset(seed=0)
    infos = [env.step(0)[4] for _ in range(3)]
    assert set(infos[-1]) == {*KEYS, "episode"}
