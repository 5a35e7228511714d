"""How fast videos are labelled and levels are played on this machine.

python -m agents.speed --preset full
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro

from agents.acting import ClonedAgent
from agents.config import POLICIES
from agents.evaluation import choose_levels, play_levels
from agents.labelling import label_dataset
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy
from genie_gym.bench.experiment import Experiment
from genie_gym.configs import RecordConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.data.held_out import restrict
from genie_gym.data.players import parse_shares
from genie_gym.data.procgen import NUM_REAL_ACTIONS
from genie_gym.data.record import record
from genie_gym.models.loading import load

SIZES: dict[str, dict[str, int]] = {"smoke": {"frames": 512, "levels": 2}, "full": {"frames": 8192, "levels": 64}}


@dataclass(frozen=True, kw_only=True)
class Speed(Experiment):
    """Label, then play; both with all that the benchmark does around the networks."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder: its latent action model labels."""
    policy: Literal["impala", "st-vivit"] = "impala"
    """As in the benchmark; untrained, which costs the same."""

    @property
    def name(self) -> str:
        return "agents_speed"

    def run(self) -> None:
        """Write frames and environment steps a second."""
        size = SIZES[self.preset]
        self.write(
            {"checkpoint": self.checkpoint, "policy": self.policy, **size, **self._label(size), **self._play(size)}
        )

    def _label(self, size: dict[str, int]) -> dict[str, float]:
        config = RecordConfig(frames=size["frames"], num_envs=16, seed=self.seed)
        folder = self.run_folder / "videos"
        record(restrict(config, "training"), parse_shares(["sticky"]), folder, progress=False)
        world, dataset = load(self.checkpoint, self.device, "float32"), ClipDataset(folder, clip_length=2)
        began = time.perf_counter()
        labels = label_dataset(world, dataset)
        return {"labelled_frames_per_second": len(labels) / (time.perf_counter() - began)}

    def _play(self, size: dict[str, int]) -> dict[str, Any]:
        torch.manual_seed(self.seed)
        latents = load(self.checkpoint, self.device).config.num_latent_actions
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
