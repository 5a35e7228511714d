"""Time PPO as a whole in a world: steps a second, and where the time of a step goes."""

from pathlib import Path
from typing import Any

import genie_gym.envs.session
from agents.dream import DREAMER, RepeatedFrameStack
from agents.dream_task import reward_going_right
from agents.ppo import open_ppo
from genie_gym.bench.timing import measure, time_methods
from genie_gym.envs import WorldHandle, zero_rewards
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.sb3 import make_sb3_vec_env

PPO_SETUPS: dict[str, dict[str, Any]] = {
    "pixels": {"observation": "pixels", "reward_fn": reward_going_right},
    "tokens": {"observation": "tokens", "reward_fn": zero_rewards},
    "tokens, reward from frames": {"observation": "tokens", "reward_fn": reward_going_right},
}
"""What the agent sees and what rewards it, by name; the reward of ``tokens`` decodes no frame."""


def time_ppo(world: GenieWorldModel, setup: str, rows: int, rollout_steps: int, seconds: float, out: Path) -> dict:
    """Time updates of PPO as ``agents.dream_task`` runs it: a rollout, and the learning from it.

    Args:
        world: World to learn in.
        setup: Name among ``PPO_SETUPS``.
        rows: Number of environments.
        rollout_steps: Steps of each environment in an update.
        seconds: As for ``bench.timing.measure``.
        out: Empty folder for PPO's log.

    Returns:
        ``setup``, ``rows``, dreamt ``steps_per_second``, and ``milliseconds`` a dreamt step of each part: ``world``
        (without the decoder), ``starts``, ``decode``, ``reward``, ``policy`` (choosing), ``learning`` and ``rest``.
    """
    settings = {"checkpoint": WorldHandle(world), "max_episode_steps": rollout_steps, **PPO_SETUPS[setup]}
    envs = make_sb3_vec_env("Genie-v0", rows, seed=0, **settings)
    stacked = RepeatedFrameStack(envs, DREAMER.context_length)
    model = open_ppo(out, stacked, rollout_steps, 0, str(world.device))
    steps = rows * rollout_steps
    methods = {
        "world": (world, "advance"),
        "starts": (world, "begin"),
        "decode": (world, "show"),
        "reward": (genie_gym.envs.session, "compute_rewards"),
        "policy": (model.policy, "forward"),
        "learning": (model, "train"),
    }
    with time_methods(methods, world.device) as spent:
        timing = measure(lambda: model.learn(steps, reset_num_timesteps=False), seconds, world.device, spent)
    envs.close()
    whole, parts = timing.seconds, dict(timing.parts)
    parts["rest"] = whole - sum(parts.values())
    milliseconds = {part: 1000 * each / steps for part, each in parts.items()}
    return {"setup": setup, "rows": rows, "steps_per_second": steps / whole, "milliseconds": milliseconds}
