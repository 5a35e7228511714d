"""Environments of tensors: the frames, rewards and ends of ``gym.make_vec``, and results that no step overwrites."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.envs import WorldHandle
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.torch_env import GenieTorchEnv

Actions = Callable[[int, int], Tensor]
NUM_ENVS, STEPS = 3, 24


def ends_sometimes(previous: Any, latent_actions: Any, frames: Any) -> Any:
    """A reward function of arrays or tensors that ends about a fifth of the episodes at each step."""
    sums = previous.sum((1, 2, 3)) + frames.sum((1, 2, 3)) + latent_actions
    return sums / 1000, sums * 7919 % 97 < 20


@pytest.fixture
def handle(tiny_world: GenieWorldModel) -> WorldHandle:
    return WorldHandle(tiny_world)


@pytest.fixture
def make(handle: WorldHandle) -> Callable[..., GenieTorchEnv]:
    return lambda num_envs=NUM_ENVS, **settings: GenieTorchEnv(
        num_envs, **{"checkpoint": handle, "device": "cpu", **settings}
    )


@pytest.mark.parametrize("settings", [{}, {"maskgit_steps": 3, "temperature": 0.7}])
def test_other_episodes_than_those_of_make_vec(
    make: Callable[..., GenieTorchEnv], handle: WorldHandle, some_actions: Actions, settings: dict[str, Any]
) -> None:
    """All that a step returns is equal, over ends by rewards and by time, and over two resets."""
    settings = {**settings, "reward_fn": ends_sometimes, "max_episode_steps": 9}
    env, actions = make(**settings), some_actions(NUM_ENVS, STEPS)
    envs = gym.make_vec("Genie-v0", NUM_ENVS, checkpoint=handle, autoreset_mode="SameStep", **settings)
    ended, seeds = [], (4, None)
    for seed in seeds:
        assert np.array_equal(env.reset(seed), envs.reset(seed=seed)[0])
        for each in actions.unbind(dim=1):
            observation, rewards, terminations, truncations, info = env.step(each)
            frames, *others, infos = envs.step(each.numpy())
            assert np.array_equal(observation, frames)
            np.testing.assert_allclose(rewards.numpy(), others[0], rtol=1e-6)
            assert np.array_equal(terminations, others[1])
            assert np.array_equal(truncations, others[2])
            is_over = others[1] | others[2]
            for row in range(NUM_ENVS):
                final = infos["final_obs"][row] if is_over[row] else frames[row]
                assert np.array_equal(info["final_obs"][row], final)
            ended.append(is_over)
    assert 6 < np.sum(ended) < STEPS * NUM_ENVS


def test_rows_that_are_restarted_unasked(
    make: Callable[..., GenieTorchEnv], handle: WorldHandle, some_actions: Actions
) -> None:
    """With ``autoreset=False`` only the rows of a mask restart, and the others play on."""
    env = make(autoreset=False, max_episode_steps=5)
    envs = gym.make_vec("Genie-v0", NUM_ENVS, checkpoint=handle, autoreset_mode="Disabled", max_episode_steps=-1)
    assert np.array_equal(env.reset(1), envs.reset(seed=1)[0])
    mask = np.array([False, True, False])
    for number, each in enumerate(some_actions(NUM_ENVS, 8).unbind(dim=1)):
        if number == 6:
            assert np.array_equal(env.reset(mask=torch.from_numpy(mask)), envs.reset(options={"reset_mask": mask})[0])
        observation, _, _, truncations, _ = env.step(each)
        assert np.array_equal(observation, envs.step(each.numpy())[0])
        assert truncations.tolist() == [number >= 4, 4 <= number < 6, number >= 4]


def test_a_prompt_that_is_not_where_episodes_start(
    make: Callable[..., GenieTorchEnv], handle: WorldHandle, tiny_world: GenieWorldModel
) -> None:
    prompt = tiny_world.start_clips[2, -1]
    envs = gym.make_vec("Genie-v0", NUM_ENVS, checkpoint=handle, prompt=prompt)
    assert np.array_equal(make(prompt=prompt).reset(3), envs.reset(seed=3)[0])


def test_float_observations_of_other_frames(make: Callable[..., GenieTorchEnv], some_actions: Actions) -> None:
    one, other = make(dtype=torch.float32), make()
    floats, frames = one.reset(2), other.reset(2)
    for each in some_actions(NUM_ENVS, 2).unbind(dim=1):
        assert torch.equal(floats, frames.permute(0, 3, 1, 2).float() / 255)
        floats, frames = one.step(each)[0], other.step(each)[0]


def test_results_that_a_later_step_overwrites(make: Callable[..., GenieTorchEnv], some_actions: Actions) -> None:
    """What a step returned, and what a reward function was given before, is the caller's to keep."""
    given: list[Tensor] = []

    def reward(previous: Tensor, latent_actions: Tensor, frames: Tensor) -> Tensor:
        given.append(previous)
        return frames.float().mean((1, 2, 3))

    env = make(reward_fn=reward, max_episode_steps=3)
    first = env.reset(0)
    kept = [first, *(each for action in some_actions(NUM_ENVS, 2).unbind(1) for each in env.step(action)[:4])]
    copies = [each.clone() for each in kept]
    for each in some_actions(NUM_ENVS, 4).unbind(dim=1):
        env.step(each)
    assert all(torch.equal(one, other) for one, other in zip(kept, copies, strict=True))
    assert torch.equal(given[0], first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a positive integer, got 0"),
        ({"dtype": torch.float16}, "dtype must be torch.uint8 or torch.float32, got torch.float16"),
        ({"reward_fn": "zero"}, "reward_fn must be None or a function of tensors, got 'zero'"),
        ({"max_episode_steps": 0}, "max_episode_steps must be a positive integer, got 0"),
    ],
)
def test_a_wrong_setting_that_is_taken(
    make: Callable[..., GenieTorchEnv], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize("actions", [torch.zeros(2).long(), torch.zeros(3), torch.tensor([0, 8, 0]), [0, 0, 0]])
def test_wrong_actions_that_are_taken(make: Callable[..., GenieTorchEnv], actions: Any) -> None:
    env = make()
    env.reset(0)
    with pytest.raises(ValueError, match="actions must be"):
        env.step(actions)


@pytest.mark.parametrize(
    "returned",
    [1.0, torch.zeros(2), (torch.zeros(3), torch.zeros(3)), torch.zeros(3, device="meta"), (torch.zeros(3), [False])],
)
def test_a_wrong_reward_that_is_taken(make: Callable[..., GenieTorchEnv], some_actions: Actions, returned: Any) -> None:
    env = make(reward_fn=lambda *given: returned)
    env.reset(0)
    with pytest.raises(ValueError, match="of reward_fn must be"):
        env.step(some_actions(NUM_ENVS, 1)[:, 0])


def test_a_step_before_the_first_reset(make: Callable[..., GenieTorchEnv]) -> None:
    env = make()
    with pytest.raises(ValueError, match="mask must be None in the first reset"):
        env.reset(mask=torch.tensor([True, False, True]))
    with pytest.raises(ValueError, match=r"reset\(\) must be called before step\(\)"):
        env.step(torch.zeros(NUM_ENVS).long())
