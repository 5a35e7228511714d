"""Speed of ``Genie-v0`` by parts of a step, with a full context, and Gymnasium's own benchmarks."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import torch
from gymnasium.utils.performance import benchmark_step, benchmark_vector_step

from genie_gym.bench.timing import Timing, measure, time_methods
from genie_gym.envs import WorldHandle, zero_rewards
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.torch_env import GenieTorchEnv

GYMNASIUM_ENVS = 16
"""Number of environments in Gymnasium's vector benchmark."""


@contextlib.contextmanager
def playing(world: GenieWorldModel, num_envs: int | None) -> Iterator[Callable[[], object]]:
    """Yield a function that steps ``Genie-v0`` under random latent actions.

    The context is full, and episodes do not end. ``num_envs`` is that of ``gym.make_vec``, or None for ``gym.make``.
    """
    env = _make(world, num_envs)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(world.config.context_length):
        env.step(env.action_space.sample())
    try:
        yield lambda: env.step(env.action_space.sample())
    finally:
        env.close()


def time_environments(world: GenieWorldModel, num_envs: int | None, seconds: float) -> Timing:
    """Time a step of ``Genie-v0``; the arguments are those of ``playing`` and ``measure``.

    Returns:
        Seconds of a step of all environments together, and its parts ``dynamics`` (with the sampling of tokens),
        ``decode`` and ``environment`` (the rest). On a GPU, synchronising after each part adds a little time.
    """
    methods = {"dynamics": (world, "_draw"), "decode": (world.tokenizer, "decode_next")}
    with playing(world, num_envs) as step, time_methods(methods, world.device) as spent:
        timing = measure(step, seconds, world.device, spent)
    return timing._replace(parts={**timing.parts, "environment": timing.seconds - sum(timing.parts.values())})


def torch_env_fps(world: GenieWorldModel, num_envs: int, seconds: float) -> float:
    """Return the frames per second of ``GenieTorchEnv`` with a full context and latent actions on the device.

    ``seconds`` is the time for the measurement, as in ``measure``.
    """
    env = GenieTorchEnv(num_envs, checkpoint=WorldHandle(world), max_episode_steps=None)
    env.reset(0)
    actions = torch.randint(env.num_actions, (num_envs,), device=world.device)
    for _ in range(world.config.context_length):
        env.step(actions)
    return num_envs / measure(lambda: env.step(actions), seconds, world.device).seconds


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep one core of the machine busy within the block, by another process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def run_gymnasium_benchmarks(world: GenieWorldModel, seconds: float) -> dict[str, float]:
    """Return steps per second from ``gymnasium.utils.performance``, for one environment and for ``GYMNASIUM_ENVS``."""
    duration = max(1, round(seconds))
    alone, envs = _make(world, None), _make(world, GYMNASIUM_ENVS)
    assert isinstance(alone, gym.Env)
    assert isinstance(envs, gym.vector.VectorEnv)
    rates = {
        "benchmark_step": benchmark_step(alone, duration, seed=0),
        "benchmark_vector_step": benchmark_vector_step(envs, duration, seed=0),
        "num_envs": GYMNASIUM_ENVS,
    }
    alone.close()
    envs.close()
    return rates


def _make(world: GenieWorldModel, num_envs: int | None) -> gym.Env | gym.vector.VectorEnv:
    settings: dict[str, Any] = {"checkpoint": WorldHandle(world), "reward_fn": zero_rewards, "max_episode_steps": -1}
    if num_envs is None:
        return gym.make("Genie-v0", **settings)
    return gym.make_vec("Genie-v0", num_envs=num_envs, **settings)
