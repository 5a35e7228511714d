"""How fast videos are labelled, levels are played, and dreams go on this machine.

python -m agents.speed --preset full
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro

from agents.acting import ClonedAgent
from agents.config import POLICIES, PolicyName
from agents.evaluation import choose_levels, play_levels
from agents.labelling import label_dataset
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy
from genie_gym.bench.machine import peak_memory
from genie_gym.configs import RecordConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.data.procgen import NUM_REAL_ACTIONS
from genie_gym.data.record import record
from genie_gym.metrics.held_out import restrict
from genie_gym.players.specs import parse_shares
from genie_gym.results.experiment import Experiment
from genie_gym.sb3 import make_sb3_vec_env
from genie_gym.serving import load_world

SIZES: dict[str, dict[str, int]] = {
    "smoke": {"frames": 512, "levels": 2, "dream_steps": 4},
    "full": {"frames": 8192, "levels": 64, "dream_steps": 100},
}
DREAMERS = 16
"""Environments that are dreamt in at once."""


@dataclass(frozen=True, kw_only=True)
class Speed(Experiment):
    """Label, play, dream; with all that the benchmarks do around the networks."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder: its latent action model labels."""
    policy: PolicyName = "impala"
    """As in the benchmark; untrained, which costs the same."""

    @property
    def name(self) -> str:
        return "agents_speed"

    def run(self) -> None:
        """Write frames and environment steps a second."""
        size = SIZES[self.preset]
        measured = {**self._dream(size), **self._label(size), **self._play(size)}  # first what states the memory's peak
        self.write({"checkpoint": self.checkpoint, "policy": self.policy, **size, **measured})

    def _dream(self, size: dict[str, int]) -> dict[str, float]:
        """``DREAMERS`` environments as SB3 steps them, and what of a step is not the world's own environment's."""
        envs = make_sb3_vec_env("Genie-v0", DREAMERS, seed=self.seed, checkpoint=self.checkpoint, max_episode_steps=32)
        within, step = 0.0, envs.get_attr("step")[0]

        def timed(actions: np.ndarray) -> Any:
            nonlocal within
            began = time.perf_counter()
            stepped = step(actions)
            within += time.perf_counter() - began
            return stepped

        rng, choices = np.random.default_rng(self.seed), int(envs.action_space.n)  # type: ignore[attr-defined]
        envs.reset()
        envs.step(rng.integers(choices, size=DREAMERS))
        envs.set_attr("step", timed)
        began = time.perf_counter()
        for _ in range(size["dream_steps"]):
            envs.step(rng.integers(choices, size=DREAMERS))
        whole = time.perf_counter() - began
        envs.close()
        return {
            "dreamers": DREAMERS,
            "dreamt_steps_per_second": DREAMERS * size["dream_steps"] / whole,
            "adapter_share": 1 - within / whole,
            "peak_memory_mb": peak_memory(torch.device(self.device), "dreamt")["dreamt"],
        }

    def _label(self, size: dict[str, int]) -> dict[str, float]:
        config = RecordConfig(frames=size["frames"], num_envs=16, seed=self.seed)
        folder = self.run_folder / "videos"
        record(restrict(config, "training"), parse_shares(["sticky"]), folder, progress=False)
        world, dataset = load_world(self.checkpoint, self.device, "float32"), ClipDataset(folder, clip_length=2)
        began = time.perf_counter()
        labels = label_dataset(world, dataset)
        return {"labelled_frames_per_second": len(labels) / (time.perf_counter() - began)}

    def _play(self, size: dict[str, int]) -> dict[str, Any]:
        torch.manual_seed(self.seed)
        latents = load_world(self.checkpoint, self.device).config.num_latent_actions
        policy = LatentPolicy(POLICIES[self.policy].policy, latents).eval().requires_grad_(False)
        seen = torch.arange(latents).numpy()
        mapping = ActionMapping.fit(seen, seen % NUM_REAL_ACTIONS, latents)
        agent = ClonedAgent(policy, size["levels"], self.seed, mapping)
        levels = choose_levels("validation", size["levels"])
        began = time.perf_counter()
        steps = int(play_levels(agent, "easy", levels).env_steps.sum())
        return {"env_steps": steps, "env_steps_per_second": steps / (time.perf_counter() - began)}


if __name__ == "__main__":
    tyro.cli(Speed).run()
