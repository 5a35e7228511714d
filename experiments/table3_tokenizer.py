"""The paper's table 3 at our size: ViT, C-ViViT and ST-ViViT as tokenizers.

They look at space alone, at all tokens so far, or at space and time in turn.

    python -m experiments.table3_tokenizer --preset full

Each has about as many weights and trains on the same clips for as many floating-point operations; then a dynamics of
its own trains on its tokens, for equally many steps, under the latent actions of the shipped world. Three seeds.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro

import genie_gym
from experiments.rivals import count_memory, count_step, draw_rivals, record_levels, record_validation, score_world
from experiments.shipped_rivals import digest_shipped
from genie_gym.config_io import vary
from genie_gym.configs import WorldConfig
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import VectorQuantizer
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import VariantExperiment
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips
from genie_gym.training.tokenizer import TokenizerTrainee, train_tokenizer
from genie_gym.training.world import train_dynamics

KINDS = {"ViT": ("spatial", 3), "C-ViViT": ("full", 3), "ST-ViViT": ("st", 2)}
"""Attention, and layers of encoder and of decoder: blocks with one attention have two thirds of the weights."""
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "clips": 8, "tokenizer_steps": 4, "dynamics_steps": 4, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "tokenizer_steps": 700, "dynamics_steps": 400, "seeds": 3},
}
"""Frames recorded, clips scored, the ST-ViViT's training steps, the dynamics', and seeds."""
LABELS = {
    "tokenizer_psnr": "tokenizer PSNR, dB",
    "fvd_procgen_rebuilt": "fvd_procgen, rebuilt",
    "fvd_procgen": "fvd_procgen, played",
    "delta_psnr": "delta PSNR, t = 4, dB",
}


@dataclass(frozen=True, kw_only=True)
class TokenizerTable(VariantExperiment):
    """Train and score the three."""

    @property
    def name(self) -> str:
        return "table3_tokenizer"

    def run(self) -> None:
        """Train what is missing, write, draw."""
        size = SIZES[self.preset]
        cells = self.repeat_over_seeds([{"kind": kind} for kind in KINDS], size["seeds"])
        rows = self.finish_rows(cells, {"shipped": digest_shipped(), **size}, self._train)
        draw_rivals(rows, "kind", list(KINDS), LABELS, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size, folder = SIZES[self.preset], self.run_folder / f"{cell['kind']}-{cell['seed']}"
        dataset = record_levels(self.work / self.preset, "training", size["frames"], self.seed).in_memory()
        first = replace(PRESETS["study"].tokenizer_training, seed=cell["seed"])
        draw_clips = clips(dataset, first, self.device)
        batch = next(iter(draw_clips(0, 1)))
        trainees = {kind: TokenizerTrainee(VideoTokenizer(build_config(kind)).to(self.device)) for kind in KINDS}
        steps = {kind: count_step(trainee, batch) for kind, trainee in trainees.items()}
        memory = count_memory(trainees[cell["kind"]], batch)
        train_steps = max(1, round(size["tokenizer_steps"] * steps["ST-ViViT"] / steps[cell["kind"]]))
        torch.manual_seed(cell["seed"])
        world = GenieWorldModel(build_config(cell["kind"])).to(self.device)
        first = replace(first, train_steps=train_steps)
        train_tokenizer(world.tokenizer, Phase(draw_clips, first, folder / "tokenizer"))
        world.latent_action_model = genie_gym.load("coinrun", self.device, "float32").latent_action_model
        assert isinstance(world.tokenizer.quantizer, VectorQuantizer)
        world.dynamics.initialise(world.tokenizer.quantizer.codebook)
        second = replace(PRESETS["study"].world_training, train_steps=size["dynamics_steps"], seed=cell["seed"])
        train_dynamics(world, Phase(draw_clips, second, folder / "dynamics"))
        world.eval().requires_grad_(False)
        counts = {
            "train_steps": train_steps,
            "step_gflop": steps[cell["kind"]] / 1e9,
            "activations_mb": memory / 2**20,
            "parameters": sum(weight.numel() for weight in world.tokenizer.parameters()),
        }
        return {**counts, **score_world(world, record_validation(size["clips"], self.seed), self.seed)}


def build_config(kind: str) -> WorldConfig:
    """The world of the preset ``study`` with a tokenizer of a kind, and the shipped latent action model's config."""
    attention, layers = KINDS[kind]
    overrides: dict[str, Any] = {}
    for part in ("encoder", "decoder"):
        overrides |= {f"tokenizer.{part}.attention": attention, f"tokenizer.{part}.layers": layers}
    shipped = genie_gym.load("coinrun", precision="float32").config.latent_action_model
    return replace(vary(PRESETS["study"].world, overrides), latent_action_model=shipped)


if __name__ == "__main__":
    tyro.cli(TokenizerTable).run()
