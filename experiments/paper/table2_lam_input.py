"""The paper's table 2 at our size: a latent action model that reads pixels against one that reads tokens.

    python -m experiments.paper.table2_lam_input --preset full

Both are ST-transformers of the paper's kind and of one size. Each trains beside a dynamics of its own, on the same
clips and the tokens of the shipped tokenizer, for as many floating-point operations, over three seeds. A patch of
pixels is as large as a token's, so that both see as many positions a frame.
"""

from dataclasses import dataclass, replace
from typing import Any

import tyro

from experiments.lib import variants
from genie_gym.configs import TransformerActionConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import VariantExperiment
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips
from genie_gym.training.world import WorldTrainee, train_world

_INPUTS = ("pixels", "tokens")
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "clips": 8, "train_steps": 4, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "train_steps": 700, "seeds": 3},
}
"""Number of frames recorded, clips scored, training steps of the pixel model, and seeds."""
_LABELS = {
    "delta_psnr": "delta PSNR, t = 4, dB",
    "fvd_procgen": "fvd_procgen",
    "nmi": "NMI with the nine moves",
    "perplexity": "perplexity of labels",
}


@dataclass(frozen=True, kw_only=True)
class InputTable(VariantExperiment):
    """Train and score a latent action model on each kind of input."""

    name = "table2_lam_input"

    def run(self) -> None:
        """Train the runs that are missing, write the results, draw the figure."""
        size = _SIZES[self.preset]
        cells = self.repeat_over_seeds([{"inputs": inputs} for inputs in _INPUTS], size["seeds"])
        rows = self.finish_rows(cells, {"shipped": variants.digest_shipped(), **size}, self._train)
        variants.draw_variants(rows, "inputs", _INPUTS, _LABELS, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size = _SIZES[self.preset]
        world = build_input_variant(cell["inputs"], cell["seed"], self.device)
        dataset = variants.record_variant_clips(
            self.work / self.preset, "training", size["frames"], self.seed
        ).in_memory()
        config = replace(PRESETS["study"].world_training, seed=cell["seed"])
        draw_clips = clips(dataset, config, self.device)
        batch = next(iter(draw_clips(0, 1)))
        steps = {
            inputs: variants.count_step(WorldTrainee(build_input_variant(inputs, 0, self.device)), batch)
            for inputs in _INPUTS
        }
        train_steps = max(1, round(size["train_steps"] * steps["pixels"] / steps[cell["inputs"]]))
        config = replace(config, train_steps=train_steps)
        train_world(world, Phase(draw_clips, config, self.run_folder / f"{cell['inputs']}-{cell['seed']}"))
        world.eval().requires_grad_(False)
        play = variants.record_validation(size["clips"], self.seed)
        parameters = sum(weight.numel() for weight in world.latent_action_model.parameters())
        counts = {"train_steps": train_steps, "step_gflop": steps[cell["inputs"]] / 1e9, "parameters": parameters}
        return {
            **counts,
            **variants.score_world(world, play, self.seed),
            **variants.score_actions(world, dataset, play, self.seed),
        }


def build_input_variant(inputs: str, seed: int, device: str) -> GenieWorldModel:
    """Return the shipped tokenizer with a new latent action model of the paper's kind and a new dynamics."""
    study = PRESETS["study"].world
    part = TransformerActionConfig(
        inputs=inputs,  # type: ignore[arg-type]  # one of _INPUTS
        quantizer=study.latent_action_model.quantizer,
        patch_size=study.tokenizer.patch_size,
        encoder=study.tokenizer.encoder,
        decoder=study.tokenizer.decoder,
        hidden_frames=0.5,
    )
    return variants.build_variant({}, seed, device, part)


if __name__ == "__main__":
    tyro.cli(InputTable).run()
