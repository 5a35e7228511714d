"""Ablation of how latent actions condition the dynamics: added (as in the paper), as tokens, or by FiLM.

    python -m experiments.ablations.actions --preset full

Tokenizer and latent action model are the shipped world's, frozen. For three seeds, a dynamics of each kind trains on
the same clips for the same number of floating-point operations.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import tyro

from experiments.lib import variants
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import Row
from genie_gym.training.loop import Phase


@dataclass(frozen=True, kw_only=True)
class ActionsAblation(variants.VariantTable):
    """Train and score a dynamics of each kind; the preset's ``train_steps`` are those of the additive kind."""

    name, key, kinds = "ablation_actions", "kind", ("additive", "token", "film")
    scores = ("delta_psnr", "fvd_procgen", "held_out_loss")
    steps: ClassVar = {"smoke": {"train_steps": 4}, "full": {"train_steps": 600}}

    def train(self, cell: Row) -> Row:
        """Train a cell's dynamics on the shipped world's tokens; its row also has the held-out losses."""
        world = variants.build_variant({"action_conditioning": cell["kind"]}, cell["seed"], self.device)
        encoded = variants.encode_splits(self.work / self.preset, self.size["frames"], self.seed)
        trainee, config = variants.EncodedTrainee(world.dynamics, *encoded), PRESETS["study"].world_training
        batches = encoded[0].batches(config.batch_size, cell["seed"])
        batch = next(iter(batches(0, 1)))
        additive = variants.EncodedTrainee(variants.build_variant({}, 0, self.device).dynamics, *encoded)
        counts = variants.match_compute(trainee, additive, self.size["train_steps"], batch)
        config = replace(config, train_steps=counts["train_steps"], seed=cell["seed"])
        Phase(batches, config, self.run_folder / f"{cell['kind']}-{cell['seed']}").run(trainee)
        scores = self.score(world, world.dynamics)
        losses = {f"{name}_loss": float(value) for name, value in trainee.probe(batch).items()}
        return {**counts, **losses, **scores}


if __name__ == "__main__":
    tyro.cli(ActionsAblation).run()
