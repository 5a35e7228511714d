"""The paper's table 3 at our size: ViT, C-ViViT and ST-ViViT as tokenizers.

They attend in space alone, to all tokens so far, or in space and time in turn.

    python -m experiments.paper.table3_tokenizer --preset full

All have about as many weights and train on the same clips for as many floating-point operations; then a dynamics trains
on the tokens of each, for equally many steps, under the latent actions of the shipped world. Three seeds.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro

import genie_gym
from experiments.lib import variants
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

_KINDS = {"ViT": ("spatial", 3), "C-ViViT": ("full", 3), "ST-ViViT": ("st", 2)}
"""Attention, and layers of encoder and decoder: a block with one attention has two thirds of an ST block's weights."""
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "clips": 8, "tokenizer_steps": 4, "dynamics_steps": 4, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "tokenizer_steps": 700, "dynamics_steps": 400, "seeds": 3},
}
"""Number of frames recorded, clips scored, training steps of the ST-ViViT and of each dynamics, and seeds."""
_LABELS = {
    "tokenizer_psnr": "tokenizer PSNR, dB",
    "fvd_procgen_rebuilt": "fvd_procgen, rebuilt",
    "fvd_procgen": "fvd_procgen, played",
    "delta_psnr": "delta PSNR, t = 4, dB",
}


@dataclass(frozen=True, kw_only=True)
class TokenizerTable(VariantExperiment):
    """Train and score the three tokenizers."""

    name = "table3_tokenizer"

    def run(self) -> None:
        """Train the runs that are missing, write the results, draw the figure."""
        size = _SIZES[self.preset]
        cells = self.repeat_over_seeds([{"kind": kind} for kind in _KINDS], size["seeds"])
        rows = self.finish_rows(cells, {"shipped": variants.digest_shipped(), **size}, self._train)
        variants.draw_variants(rows, "kind", list(_KINDS), _LABELS, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size, folder = _SIZES[self.preset], self.run_folder / f"{cell['kind']}-{cell['seed']}"
        dataset = variants.record_variant_clips(
            self.work / self.preset, "training", size["frames"], self.seed
        ).in_memory()
        first = replace(PRESETS["study"].tokenizer_training, seed=cell["seed"])
        draw_clips = clips(dataset, first, self.device)
        batch = next(iter(draw_clips(0, 1)))
        trainees = {
            kind: TokenizerTrainee(VideoTokenizer(build_tokenizer_variant(kind)).to(self.device)) for kind in _KINDS
        }
        steps = {kind: variants.count_step(trainee, batch) for kind, trainee in trainees.items()}
        memory = variants.count_memory(trainees[cell["kind"]], batch)
        train_steps = max(1, round(size["tokenizer_steps"] * steps["ST-ViViT"] / steps[cell["kind"]]))
        torch.manual_seed(cell["seed"])
        world = GenieWorldModel(build_tokenizer_variant(cell["kind"])).to(self.device)
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
        return {
            **counts,
            **variants.score_world(world, variants.record_validation(size["clips"], self.seed), self.seed),
        }


def build_tokenizer_variant(kind: str) -> WorldConfig:
    """Return the preset ``study`` with one kind of tokenizer and the shipped latent action model."""
    attention, layers = _KINDS[kind]
    overrides: dict[str, Any] = {}
    for part in ("encoder", "decoder"):
        overrides |= {f"tokenizer.{part}.attention": attention, f"tokenizer.{part}.layers": layers}
    shipped = genie_gym.load("coinrun", precision="float32").config.latent_action_model
    return replace(vary(PRESETS["study"].world, overrides), latent_action_model=shipped)


if __name__ == "__main__":
    tyro.cli(TokenizerTable).run()
