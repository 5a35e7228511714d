"""The environments with a real world of random weights, for everything that the stub cannot test."""

import copy
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode

import genie_gym
from genie_gym.envs import GenieEnv, GenieVectorEnv, WorldHandle
from genie_gym.models.world_model import GenieWorldModel

FEW: dict[str, Any] = {"maskgit_steps": 2}


@pytest.fixture
def real(tiny_world: GenieWorldModel) -> WorldHandle:
    return WorldHandle(tiny_world)


def test_gymnasiums_checker_accepts_the_environment(tiny_checkpoint: Path) -> None:
    env = gym.make("Genie-v0", checkpoint=str(tiny_checkpoint), render_mode="rgb_array", **FEW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    assert env.spec is not None
    assert str(tiny_checkpoint) in env.spec.to_json()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_equal_single_environments(real: WorldHandle, mode: AutoresetMode, episode_ends: Any) -> None:
    """Rows equal single environments frame by frame, beyond the context and across the ends of episodes."""
    kwargs: dict[str, Any] = {"checkpoint": real, "reward_fn": episode_ends, "max_episode_steps": 7, **FEW}
    envs = gym.make_vec("Genie-v0", num_envs=3, autoreset_mode=mode, **kwargs)
    singles = gym.make_vec("Genie-v0", 3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **kwargs)
    assert data_equivalence(envs.reset(seed=0), singles.reset(seed=0), exact=True)
    envs.action_space.seed(0)
    for _ in range(20):
        actions = envs.action_space.sample()
        step = envs.step(actions)
        assert data_equivalence(step, singles.step(actions), exact=True)
        if mode is AutoresetMode.DISABLED and (ended := step[2] | step[3]).any():
            for each in (envs, singles):
                each.reset(options={"reset_mask": ended.copy()})


def test_rows_sample_the_tokens_of_single_environments(real: WorldHandle, tiny_world: GenieWorldModel) -> None:
    """Rows equal single environments token by token, beyond the context: close frames could hide a different token."""
    drawn: list[np.ndarray] = []
    draw = tiny_world._draw

    def spy(*inputs: Any) -> torch.Tensor:
        tokens = draw(*inputs)
        drawn.append(tokens[:, 0].numpy())
        return tokens

    tiny_world._draw = spy  # type: ignore[method-assign, assignment]
    try:
        length = tiny_world.config.context_length + 3
        actions = np.random.default_rng(0).integers(tiny_world.config.num_latent_actions, size=(length, 4))
        envs = GenieVectorEnv(4, checkpoint=real, **FEW)
        envs.reset(seed=5)
        for row in actions:
            envs.step(row)
        batched, drawn[:] = np.stack(drawn, axis=1), []
        for row in range(4):
            env = GenieEnv(checkpoint=real, **FEW)
            env.reset(seed=5 + row)
            for action in actions[:, row]:
                env.step(action)
            alone, drawn[:] = np.concatenate(drawn), []
            assert np.array_equal(batched[row], alone)
    finally:
        del tiny_world._draw


def test_prompts_of_every_length_equal_single_environments(real: WorldHandle, play: Any) -> None:
    frames = list(real.world.start_clips[0])
    prompts = [frames[:1], frames[:3], None, frames[:4], frames[1:3]]
    envs = GenieVectorEnv(5, prompts=prompts, checkpoint=real, **FEW)
    seen = np.stack([envs.reset(seed=0)[0], *(envs.step(np.full(5, action))[0] for action in (1, 2))], axis=1)
    for row, prompt in enumerate(prompts):
        assert np.array_equal(seen[row], play(GenieEnv(prompt, checkpoint=real, **FEW), row, [1, 2]))


def test_the_seed_determines_the_episode(real: WorldHandle, play: Any) -> None:
    env = GenieEnv(real.world.start_clips[0, -1], checkpoint=real, **FEW)
    one, same, other = (play(env, seed, [0, 1, 2]) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert np.array_equal(one[0], other[0])
    assert not np.array_equal(one, other)


def test_a_copied_spec_holds_no_weights(tiny_checkpoint: Path, real: WorldHandle) -> None:
    for checkpoint in (tiny_checkpoint, real):
        spec = copy.deepcopy(gym.make("Genie-v0", checkpoint=checkpoint).spec)
        assert spec is not None
        assert spec.kwargs["checkpoint"] is real or spec.kwargs == {"checkpoint": tiny_checkpoint}


def test_environments_of_one_checkpoint_share_its_world(tiny_checkpoint: Path) -> None:
    env = GenieEnv(checkpoint=tiny_checkpoint)
    envs = GenieVectorEnv(2, checkpoint=str(tiny_checkpoint))
    assert env._session.world is envs._session.world is genie_gym.load(tiny_checkpoint)
    assert not any(weight.requires_grad for weight in env._session.world.parameters())
    low = GenieEnv(checkpoint=tiny_checkpoint, precision="bfloat16")._session.world
    assert low is genie_gym.load(tiny_checkpoint, precision="bfloat16") is not env._session.world
    assert low.dynamics.precision == torch.bfloat16


def test_a_checkpoint_equals_its_world_in_memory(tiny_checkpoint: Path, real: WorldHandle, play: Any) -> None:
    saved, memory = (GenieEnv(checkpoint=one, **FEW) for one in (tiny_checkpoint, real))
    differences = play(saved, 0, [1, 2]).astype(int) - play(memory, 0, [1, 2])
    assert np.abs(differences).max() <= 1  # kernels round the last bit differently
