"""How a latent action should enter the dynamics: added (the paper), as a token, or by FiLM.

    python -m experiments.ablation_actions --preset full

Tokenizer and latent action model are those of the shipped world and stay as they are; dynamics of every kind train on
the same clips, for as many floating-point operations, over three seeds, and play in that world.
"""

from dataclasses import dataclass, replace
from typing import Any

import tyro

from experiments.rivals import count_step, draw_rivals, record_validation, score_world
from experiments.shipped_rivals import EncodedTrainee, build_rival, digest_shipped, encode_splits
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import VariantExperiment
from genie_gym.training.loop import Phase

KINDS = ("additive", "token", "film")
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "clips": 8, "train_steps": 4, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "train_steps": 600, "seeds": 3},
}
"""Frames recorded, clips scored, training steps of the additive kind, and seeds."""
LABELS = {"delta_psnr": "delta PSNR, t = 4, dB", "fvd_procgen": "fvd_procgen", "held_out_loss": "held-out loss, nats"}


@dataclass(frozen=True, kw_only=True)
class ActionsAblation(VariantExperiment):
    """Train and score the three."""

    @property
    def name(self) -> str:
        return "ablation_actions"

    def run(self) -> None:
        """Train what is missing, write, draw."""
        size = SIZES[self.preset]
        settings = {"shipped": digest_shipped(), **size}
        cells = self.repeat_over_seeds([{"kind": kind} for kind in KINDS], size["seeds"])
        rows = self.finish_rows(cells, settings, self._train)
        draw_rivals(rows, "kind", KINDS, LABELS, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size, world = SIZES[self.preset], build_rival({"action_conditioning": cell["kind"]}, cell["seed"], self.device)
        encoded = encode_splits(self.work / self.preset, size["frames"], self.seed)
        trainee, config = EncodedTrainee(world.dynamics, *encoded), PRESETS["study"].world_training
        batches = encoded[0].batches(config.batch_size, cell["seed"])
        batch = next(iter(batches(0, 1)))
        least = EncodedTrainee(build_rival({}, 0, self.device).dynamics, *encoded)
        step, budget = count_step(trainee, batch), size["train_steps"] * count_step(least, batch)
        config = replace(config, train_steps=max(1, round(budget / step)), seed=cell["seed"])
        Phase(batches, config, self.run_folder / f"{cell['kind']}-{cell['seed']}").run(trainee)
        world.eval().requires_grad_(False)
        losses = {f"{name}_loss": float(value) for name, value in trainee.probe(batch).items()}
        scores = score_world(world, record_validation(size["clips"], self.seed), self.seed)
        parameters = sum(weight.numel() for weight in world.dynamics.parameters())
        counts = {"train_steps": config.train_steps, "step_gflop": step / 1e9, "parameters": parameters}
        return {**counts, **losses, **scores}


if __name__ == "__main__":
    tyro.cli(ActionsAblation).run()
