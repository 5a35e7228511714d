"""How a latent action should condition the dynamics: added (as in the paper), as a token, or by FiLM.

    python -m experiments.ablations.actions --preset full

Tokenizer and latent action model are the shipped world's, frozen. A dynamics of each kind trains on the same clips for
as many floating-point operations, over three seeds.
"""

from dataclasses import dataclass, replace
from typing import Any

import tyro

from experiments.lib import variants
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import VariantExperiment
from genie_gym.training.loop import Phase

_KINDS = ("additive", "token", "film")
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "clips": 8, "train_steps": 4, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "train_steps": 600, "seeds": 3},
}
"""Number of frames recorded, clips scored, training steps of the additive kind, and seeds."""
_LABELS = {"delta_psnr": "delta PSNR, t = 4, dB", "fvd_procgen": "fvd_procgen", "held_out_loss": "held-out loss, nats"}


@dataclass(frozen=True, kw_only=True)
class ActionsAblation(VariantExperiment):
    """Train and score a dynamics of each kind."""

    name = "ablation_actions"

    def run(self) -> None:
        """Train the runs that are missing, write the results, draw the figure."""
        size = _SIZES[self.preset]
        settings = {"shipped": variants.digest_shipped(), **size}
        cells = self.repeat_over_seeds([{"kind": kind} for kind in _KINDS], size["seeds"])
        rows = self.finish_rows(cells, settings, self._train)
        variants.draw_variants(rows, "kind", _KINDS, _LABELS, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size, world = (
            _SIZES[self.preset],
            variants.build_variant({"action_conditioning": cell["kind"]}, cell["seed"], self.device),
        )
        encoded = variants.encode_splits(self.work / self.preset, size["frames"], self.seed)
        trainee, config = variants.EncodedTrainee(world.dynamics, *encoded), PRESETS["study"].world_training
        batches = encoded[0].batches(config.batch_size, cell["seed"])
        batch = next(iter(batches(0, 1)))
        least = variants.EncodedTrainee(variants.build_variant({}, 0, self.device).dynamics, *encoded)
        step, budget = variants.count_step(trainee, batch), size["train_steps"] * variants.count_step(least, batch)
        config = replace(config, train_steps=max(1, round(budget / step)), seed=cell["seed"])
        Phase(batches, config, self.run_folder / f"{cell['kind']}-{cell['seed']}").run(trainee)
        world.eval().requires_grad_(False)
        losses = {f"{name}_loss": float(value) for name, value in trainee.probe(batch).items()}
        scores = variants.score_world(world, variants.record_validation(size["clips"], self.seed), self.seed)
        parameters = sum(weight.numel() for weight in world.dynamics.parameters())
        counts = {"train_steps": config.train_steps, "step_gflop": step / 1e9, "parameters": parameters}
        return {**counts, **losses, **scores}


if __name__ == "__main__":
    tyro.cli(ActionsAblation).run()
