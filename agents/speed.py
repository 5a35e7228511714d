"""Measure how fast videos are labelled, levels are played and a world is stepped through SB3 on this machine.

python -m agents.speed --preset full
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.acting import ClonedAgent
from agents.config import POLICIES, PolicyName
from agents.evaluation import choose_levels, play_levels
from agents.game import make_game
from agents.labelling import label_dataset
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy
from agents.ppo_speed import PPO_SETUPS, time_ppo
from genie_gym.bench.machine import peak_memory
from genie_gym.bench.timing import time_methods
from genie_gym.data.clips import ClipDataset
from genie_gym.envs.genie_vector_env import GenieVectorEnv
from genie_gym.failures import run_command
from genie_gym.results.experiment import Experiment
from genie_gym.sb3 import make_sb3_vec_env
from genie_gym.serving import load_world

AGENT_SPEED_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 512, "levels": 2, "dream_steps": 4, "ppo_rows": (2,), "ppo_seconds": 0},
    "full": {"frames": 8192, "levels": 64, "dream_steps": 100, "ppo_rows": (16, 64), "ppo_seconds": 20},
}
"""Sizes by preset: ``frames`` labelled, ``levels`` played at once, ``dream_steps`` of each environment, ``ppo_rows``
of the environments in which PPO learns, and ``ppo_seconds`` of timing it."""
_DREAMERS = 16
"""Number of environments stepped at once in the world."""
_ROLLOUT_STEPS = 32
"""Steps of each environment between two updates of PPO, as in ``agents.dream``."""


@dataclass(frozen=True, kw_only=True)
class AgentSpeed(Experiment):
    """Time labelling, playing, stepping a world and learning in it, including the overhead around the networks."""

    name = "agents_speed"
    checkpoint: str = "coinrun"
    """shipped checkpoint or folder whose latent action model labels"""
    policy: PolicyName = "compact"
    """policy network as in the benchmark; it is not trained"""

    def run(self) -> None:
        """Measure and write frames and environment steps per second."""
        size = AGENT_SPEED_SIZES[self.preset]
        measured = {**self._dream(size), **self._label(size), **self._play(size)}  # peak memory is measured first
        measured["ppo"] = self._learn(size)
        self.write({"checkpoint": self.checkpoint, "policy": self.policy, **size, **measured})

    def _dream(self, size: dict[str, Any]) -> dict[str, float]:
        """Time steps of ``Genie-v0`` through SB3, and the share of this time that SB3's adapter takes."""
        envs = make_sb3_vec_env("Genie-v0", _DREAMERS, seed=self.seed, checkpoint=self.checkpoint, max_episode_steps=32)
        rng, num_actions = np.random.default_rng(self.seed), int(envs.action_space.n)  # type: ignore[attr-defined]
        envs.reset()
        envs.step(rng.integers(num_actions, size=_DREAMERS))  # not timed: the first step is slower
        with time_methods({"inside": (GenieVectorEnv, "step")}, torch.device(self.device)) as spent:
            began = time.perf_counter()
            for _ in range(size["dream_steps"]):
                envs.step(rng.integers(num_actions, size=_DREAMERS))
            whole = time.perf_counter() - began
        envs.close()
        return {
            "dreamers": _DREAMERS,
            "dreamt_steps_per_second": _DREAMERS * size["dream_steps"] / whole,
            "adapter_share": 1 - spent["inside"] / whole,
            "peak_memory_mb": peak_memory(torch.device(self.device), "dreamt")["dreamt"],
        }

    def _learn(self, size: dict[str, Any]) -> list[dict[str, Any]]:
        """Time PPO as a whole, for each setup and number of rows."""
        world, rows = load_world(self.checkpoint, self.device), []
        for number in size["ppo_rows"]:
            for setup in PPO_SETUPS:
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(time_ppo(world, setup, number, _ROLLOUT_STEPS, size["ppo_seconds"], Path(folder)))
        return rows

    def _label(self, size: dict[str, Any]) -> dict[str, float]:
        folder = self.run_folder / "videos"
        make_game("hard").record("training", "sticky", folder, size["frames"], self.seed, num_envs=16)
        world, dataset = load_world(self.checkpoint, self.device, "float32"), ClipDataset(folder, clip_length=2)
        began = time.perf_counter()
        labels = label_dataset(world, dataset)
        return {"labelled_frames_per_second": len(labels) / (time.perf_counter() - began)}

    def _play(self, size: dict[str, Any]) -> dict[str, Any]:
        torch.manual_seed(self.seed)
        latents = load_world(self.checkpoint, self.device).config.num_latent_actions
        policy = LatentPolicy(POLICIES[self.policy].policy, latents).eval().requires_grad_(False)
        seen, game = torch.arange(latents).numpy(), make_game("easy")
        mapping = ActionMapping.fit(seen, seen % game.num_actions, latents, game)
        agent = ClonedAgent(policy, size["levels"], self.seed, mapping, game=game)
        levels = choose_levels("validation", size["levels"])
        began = time.perf_counter()
        steps = int(play_levels(agent, game, levels).env_steps.sum())
        return {"env_steps": steps, "env_steps_per_second": steps / (time.perf_counter() - began)}


if __name__ == "__main__":
    run_command(AgentSpeed)
