"""Play one checkout for ``experiments.ablations.against``; it uses only what older commits have, too.

    PYTHONPATH=CHECKOUT python against_player.py SETTINGS

Questions and answers are lines of JSON on standard input and output.
"""

import json
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np

import genie_gym
from genie_gym.envs import zero_rewards

_WARM_UP = 17
"""Steps before the first measurement, which fill the context."""


def answer(envs: gym.vector.VectorEnv, question: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the answer to a question: where the package is, frames to compare, or the time of a frame."""
    if "path" in question:
        envs.action_space.seed(seed)
        frames = [envs.reset(seed=seed)[0]]
        frames += [envs.step(envs.action_space.sample())[0] for _ in range(question["frames"])]
        np.save(question["path"], np.stack(frames))
        return {}
    if "seconds" in question:
        envs.step(envs.action_space.sample())
        began, processor, steps = time.perf_counter(), time.process_time(), 0
        while steps == 0 or time.perf_counter() - began < question["seconds"]:
            envs.step(envs.action_space.sample())
            steps += 1
        count, spent = steps * envs.num_envs, time.process_time() - processor
        return {"cpu_ms": 1e3 * spent / count, "fps": count / (time.perf_counter() - began)}
    return {"package": str(genie_gym.__file__)}


def main() -> None:
    """Answer questions until standard input ends."""
    settings = json.loads(sys.argv[1])
    num_envs, seed = settings.pop("num_envs"), settings.pop("seed")
    envs = gym.make_vec(
        "genie_gym:Genie-v0", num_envs=num_envs, max_episode_steps=-1, reward_fn=zero_rewards, **settings
    )
    envs.reset(seed=seed)
    for _ in range(_WARM_UP):
        envs.step(envs.action_space.sample())
    for line in sys.stdin:
        print(json.dumps(answer(envs, json.loads(line), seed)), flush=True)


if __name__ == "__main__":
    main()
