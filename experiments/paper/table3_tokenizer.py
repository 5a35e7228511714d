"""The paper's table 3 at a smaller size: ViT, C-ViViT and ST-ViViT as tokenizers.

    python -m experiments.paper.table3_tokenizer --preset full

ViT attends within a frame, C-ViViT to all tokens of this frame and earlier ones, ST-ViViT to space and time in turn.
They have about equally many weights and train on the same clips for the same number of floating-point operations. Then
a dynamics trains on the tokens of each, for equally many steps, with the latent actions of the shipped world. All this
is done for three seeds.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import tyro

import genie_gym
from experiments.lib import variants
from genie_gym.config_io import vary
from genie_gym.configs import WorldConfig
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import Row
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips
from genie_gym.training.tokenizer import TokenizerTrainee, train_tokenizer
from genie_gym.training.world import train_dynamics

_KINDS = {"ViT": ("spatial", 3), "C-ViViT": ("full", 3), "ST-ViViT": ("st", 2)}
"""Attention, and layers of encoder and decoder: three blocks with one attention have the weights of two ST blocks."""


@dataclass(frozen=True, kw_only=True)
class TokenizerTable(variants.VariantTable):
    """Train and score the three tokenizers; the preset's ``tokenizer_steps`` are those of ST-ViViT."""

    name, key, kinds = "table3_tokenizer", "kind", tuple(_KINDS)
    scores = ("tokenizer_psnr", "fvd_procgen_rebuilt", "fvd_procgen", "delta_psnr")
    steps: ClassVar = {
        "smoke": {"tokenizer_steps": 4, "dynamics_steps": 4},
        "full": {"tokenizer_steps": 700, "dynamics_steps": 400},
    }

    def train(self, cell: Row) -> Row:
        """Train a cell's tokenizer and a dynamics; the row also has the tokenizer's memory in training."""
        folder, study = self.run_folder / f"{cell['kind']}-{cell['seed']}", PRESETS["study"]
        tokenizer_training = replace(study.tokenizer_training, seed=cell["seed"])
        draw_clips = clips(self.record_training(), tokenizer_training, self.device)
        batch = next(iter(draw_clips(0, 1)))
        own, reference = (
            TokenizerTrainee(VideoTokenizer(build_tokenizer_variant(kind)).to(self.device))
            for kind in (cell["kind"], "ST-ViViT")
        )
        counts = variants.match_compute(own, reference, self.size["tokenizer_steps"], batch)
        counts["activations_mb"] = variants.count_memory(own, batch) / 2**20
        torch.manual_seed(cell["seed"])
        world = GenieWorldModel(build_tokenizer_variant(cell["kind"])).to(self.device)
        tokenizer_training = replace(tokenizer_training, train_steps=counts["train_steps"])
        train_tokenizer(world.tokenizer, Phase(draw_clips, tokenizer_training, folder / "tokenizer"))
        world.latent_action_model = genie_gym.load("coinrun", self.device, "float32").latent_action_model
        world.dynamics.initialise(world.tokenizer.quantizer.get_buffer("codebook"))
        dynamics_training = replace(study.world_training, train_steps=self.size["dynamics_steps"], seed=cell["seed"])
        train_dynamics(world, Phase(draw_clips, dynamics_training, folder / "dynamics"))
        return {**counts, **self.score(world, world.tokenizer)}


def build_tokenizer_variant(kind: str) -> WorldConfig:
    """Return the world config of the preset ``study`` with a kind of tokenizer and the shipped latent action model."""
    attention, layers = _KINDS[kind]
    overrides: dict[str, Any] = {}
    for part in ("encoder", "decoder"):
        overrides |= {f"tokenizer.{part}.attention": attention, f"tokenizer.{part}.layers": layers}
    shipped = genie_gym.load("coinrun", precision="float32").config.latent_action_model
    return replace(vary(PRESETS["study"].world, overrides), latent_action_model=shipped)


if __name__ == "__main__":
    tyro.cli(TokenizerTable).run()
