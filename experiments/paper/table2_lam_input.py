"""The paper's table 2 at a smaller size: a latent action model that reads pixels against one that reads tokens.

    python -m experiments.paper.table2_lam_input --preset full

Both are ST-transformers of the paper's kind and of equal size. For three seeds, each trains together with a dynamics of
its own, on the same clips and the tokens of the shipped tokenizer, for the same number of floating-point operations. A
patch of pixels is as large as that of a token, so that both models see equally many positions per frame.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import tyro

from experiments.lib import variants
from genie_gym.configs import TransformerActionConfig
from genie_gym.models.latent_action_model import require_learned
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import Row
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips
from genie_gym.training.world import WorldTrainee, train_world


@dataclass(frozen=True, kw_only=True)
class InputTable(variants.VariantTable):
    """Train and score a latent action model on each kind of input; the preset's ``train_steps`` are for pixels."""

    name, key, kinds = "table2_lam_input", "inputs", ("pixels", "tokens")
    scores = ("delta_psnr", "fvd_procgen", "nmi", "perplexity")
    steps: ClassVar = {"smoke": {"train_steps": 4}, "full": {"train_steps": 700}}

    def train(self, cell: Row) -> Row:
        """Train a cell's latent action model and dynamics; the row also has the scores of the labels."""
        dataset, config = self.record_training(), replace(PRESETS["study"].world_training, seed=cell["seed"])
        draw_clips = clips(dataset, config, self.device)
        own, pixels = (WorldTrainee(build_input_variant(kind, 0, self.device)) for kind in (cell["inputs"], "pixels"))
        counts = variants.match_compute(own, pixels, self.size["train_steps"], next(iter(draw_clips(0, 1))))
        world = build_input_variant(cell["inputs"], cell["seed"], self.device)
        config = replace(config, train_steps=counts["train_steps"])
        train_world(world, Phase(draw_clips, config, self.run_folder / f"{cell['inputs']}-{cell['seed']}"))
        scores = self.score(world, world.latent_action_model)
        play = variants.record_play(self.size["clips"], self.seed)
        return {**counts, **scores, **variants.score_actions(world, dataset, play, self.seed)}


def build_input_variant(inputs: str, seed: int, device: str) -> GenieWorldModel:
    """Return a world with the shipped tokenizer, a new latent action model on ``inputs`` and a new dynamics."""
    study = PRESETS["study"].world
    part = TransformerActionConfig(
        inputs=inputs,  # type: ignore[arg-type]  # one of InputTable.kinds
        quantizer=require_learned(study).quantizer,
        patch_size=study.tokenizer.patch_size,
        encoder=study.tokenizer.encoder,
        decoder=study.tokenizer.decoder,
        hidden_frames=0.5,
    )
    return variants.build_variant({}, seed, device, part)


if __name__ == "__main__":
    tyro.cli(InputTable).run()
