"""Measure whether PPO learns inside a world, by a task that is scored in the world too: going right.

    python -m agents.dream_task --preset full

The return of an episode of ``episode_steps`` steps is the number of pixels that the level scrolls to the left. Scored
episodes start from clips of validation levels, which are not used in training. Baselines are random latent actions and
each latent action held for the whole episode.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO

from agents.acting import PolicyMemory
from agents.demonstrations import Demonstrations
from agents.dream import DREAMER, Dream, open_dream
from agents.experiment import AgentExperiment
from agents.game import make_game
from genie_gym.configs import Mode
from genie_gym.data.frames import to_float
from genie_gym.envs import WorldHandle
from genie_gym.failures import run_command
from genie_gym.metrics.controllability import bootstrap_interval
from genie_gym.metrics.motion import estimate_shifts
from genie_gym.models.loading import digest_checkpoint
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.results.experiment import Row
from genie_gym.serving import load_world

DREAM_TASK_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 2048, "env_steps": 64, "num_envs": 4, "episode_steps": 4, "episodes": 4, "seeds": 1},
    "full": {"frames": 20_000, "env_steps": 40_960, "num_envs": 16, "episode_steps": 32, "episodes": 64, "seeds": 3},
}
"""Sizes by preset: ``frames`` of each level set, ``env_steps`` of PPO in the world, ``episodes`` scored."""
_REWARD = "agents.dream_task:reward_going_right"
_GAMMA, _ENT_COEF = 0.9, 0.001
"""Lower than in ``Dream``: each move is rewarded immediately, and random moves cost reward."""
_REACH = 6
"""Largest shift that is searched for, in pixels a frame; nothing in CoinRun moves faster."""

Choose = Callable[[np.ndarray, bool], np.ndarray]
"""A function from observations (B, ...), and whether they are all first ones, to latent actions (B,)."""


def reward_going_right(frames: np.ndarray, latent_actions: np.ndarray, next_frames: np.ndarray) -> np.ndarray:
    """Return by how many pixels (B,) float64 the picture moves to the left from ``frames`` to ``next_frames``.

    It does so when the camera follows a player to the right. Frames are (B, H, W, 3) uint8; actions are ignored.
    """
    before, after = (to_float(each[:, None])[:, 0] for each in (frames, next_frames))
    rewards: np.ndarray = -estimate_shifts(before, after, _REACH)[:, 1].double().numpy()
    return rewards


def score_returns(
    world: GenieWorldModel, choose: Choose, episodes: int, steps: int, seed: int, observation: str = "pixels"
) -> np.ndarray:
    """Play ``episodes`` episodes of ``steps`` steps, all at once, and return their returns (episodes,) float64.

    They begin with the world's start clips; ``seed`` determines which, and the world's sampling.
    """
    envs = gym.make_vec(
        "Genie-v0",
        episodes,
        checkpoint=WorldHandle(world),
        reward_fn=reward_going_right,
        max_episode_steps=steps,
        observation=observation,
    )
    observations, _ = envs.reset(seed=seed)
    returns = np.zeros(episodes)
    for step in range(steps):
        observations, rewards, _, _, _ = envs.step(choose(observations, step == 0))
        returns += rewards
    envs.close()
    return returns


def choose_by_tokens(model: PPO) -> Choose:
    """Return how an agent that sees the tokens of its last frames chooses, drawing from its policy."""
    seen: deque[np.ndarray] = deque(maxlen=DREAMER.context_length)

    def choose(tokens: np.ndarray, is_first: bool) -> np.ndarray:
        seen.extend([tokens] * (DREAMER.context_length if is_first else 1))
        return model.predict(np.concatenate(seen, axis=-1))[0]

    return choose


@dataclass(frozen=True, kw_only=True)
class DreamTask(AgentExperiment):
    """Record start clips, train PPO in the world, and score it and the baselines in the world."""

    name = "dream_task"
    mode: Mode = "easy"
    """Procgen's distribution mode of the start clips"""

    def run(self) -> None:
        """Compute the missing rows and print the outcome."""
        size, world = DREAM_TASK_SIZES[self.preset], {"checkpoint": Path(self.checkpoint).name}
        settings = {**size, **world, "digest": digest_checkpoint(self.checkpoint), "mode": self.mode}
        actions = range(load_world(self.checkpoint, self.device).config.num_latent_actions)
        methods = ["random", "ppo", "ppo_tokens", *(f"held_{action}" for action in actions)]
        cells = self.repeat_over_seeds([{"method": method} for method in methods], size["seeds"])
        if self.find_missing(cells, settings):
            self.record()
        print(summarize_outcome(self.finish_rows(cells, settings, self.score, self.processes)))

    def record(self) -> tuple[Path, Path]:
        """Record the missing frames and return the folders of training and validation levels."""
        frames, validation = DREAM_TASK_SIZES[self.preset]["frames"], self.run_folder / f"validation-{self.mode}"
        make_game(self.mode).record("validation", "expert", validation, frames, self.seed, workers=self.workers)
        out, numbers = self.run_folder / f"training-{self.mode}", {"frames": frames, "labelled_frames": frames // 4}
        training = Demonstrations(out=out, mode=self.mode, seed=self.seed, workers=self.workers, **numbers)
        return training.run().videos, validation

    def score(self, cell: Row) -> Row:
        """Play a cell's method, trained first if it is PPO, and return the rest of the cell's row."""
        size, world, seed = DREAM_TASK_SIZES[self.preset], load_world(self.checkpoint, self.device), cell["seed"]
        videos, validation = self.record()
        choose = self._build_method(cell["method"], world.config.num_latent_actions, videos, seed)
        opened = open_dream(world, validation, size["episodes"], seed)
        seen = "tokens" if cell["method"] == "ppo_tokens" else "pixels"
        returns = score_returns(opened, choose, size["episodes"], size["episode_steps"], seed, seen)
        return {"return": float(returns.mean()), "returns": [float(each) for each in returns]}

    def _build_method(self, method: str, num_actions: int, videos: Path, seed: int) -> Choose:
        """Return the function by which a method chooses among the latent actions; train PPO from ``videos`` first."""
        size, rng = DREAM_TASK_SIZES[self.preset], np.random.default_rng(seed)
        if method == "random":
            return lambda frames, is_first: rng.integers(num_actions, size=len(frames))
        if method.startswith("held_"):
            return lambda frames, is_first: np.full(len(frames), int(method.removeprefix("held_")))
        run = f"{self.mode}-{digest_checkpoint(self.checkpoint)[:8]}-{seed}"
        dream = Dream(
            reward=_REWARD,
            observation="pixels" if method == "ppo" else "tokens",
            starts=videos,
            checkpoint=self.checkpoint,
            out=self.run_folder / (run if method == "ppo" else f"{run}-tokens"),
            env_steps=size["env_steps"],
            num_envs=size["num_envs"],
            max_episode_steps=size["episode_steps"],
            device=self.device,
            seed=seed,
            gamma=_GAMMA,
            ent_coef=_ENT_COEF,
        )
        if method == "ppo_tokens":
            model = dream.train()
            torch.manual_seed(seed)  # the policy draws from torch's generator
            return choose_by_tokens(model)
        policy = dream.run()
        assert policy is not None  # it sees pixels
        memory, rows = PolicyMemory(policy, size["episodes"], rng), np.arange(size["episodes"])
        return lambda frames, is_first: memory.choose(rows, frames, np.full(len(rows), is_first))[0]


def score_methods(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Return each method's mean ``return`` over seeds and episodes, and its 95 % ``interval``."""
    scores = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        returns = torch.tensor([each for row in rows if row["method"] == method for each in row["returns"]])
        scores[method] = {"return": float(returns.mean()), "interval": bootstrap_interval(returns, 0)}
    return scores


def summarize_outcome(rows: list[Row]) -> dict[str, Any]:
    """Return the scores of PPO on frames and on tokens, of random latent actions and of the best held action."""
    scores = score_methods(rows)
    best = max((method for method in scores if method.startswith("held_")), key=lambda method: scores[method]["return"])
    return {method: scores[method] for method in ("ppo", "ppo_tokens", "random", best) if method in scores}


if __name__ == "__main__":
    run_command(DreamTask)
