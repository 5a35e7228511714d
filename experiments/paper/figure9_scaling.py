"""The paper's figure 9 at a smaller size: loss against compute by size of the dynamics, and by batch size.

    python -m experiments.paper.figure9_scaling --preset full

As in the paper, all runs train for the same number of steps, and all sizes on the same batches. Tokenizer
and latent action model are those of the shipped world. Losses are measured on validation levels under fixed masks.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from torch import Tensor

from experiments.lib import variants
from genie_gym.data.clips import Batch
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import TrainedExperiment
from genie_gym.training.loop import Phase

_STACKS = {"2 x 32": (2, 32), "2 x 64": (2, 64), "4 x 96": (4, 96), "4 x 128": (4, 128), "6 x 192": (6, 192)}
"""Layers and width of each dynamics; heads have 32 features, and feed-forward layers are twice as wide."""
_BATCHED = "4 x 96"
"""Size of the dynamics whose batch size varies."""
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "train_steps": 12, "watch_every": 4, "batch_size": 2, "batch_sizes": [1, 2, 4]},
    "full": {"frames": 122_880, "train_steps": 400, "watch_every": 25, "batch_size": 8, "batch_sizes": [2, 8, 32]},
}
"""Sizes by preset: ``batch_size`` serves to compare sizes of the dynamics; ``batch_sizes`` are compared at one size."""


@dataclass(frozen=True, kw_only=True)
class ScalingFigure(TrainedExperiment):
    """Train all sizes and batch sizes, fit a power law to the losses, and draw both."""

    name = "figure9_scaling"
    sizes: int = len(_STACKS)
    """number of sizes of the dynamics to train now, smallest first; call again for the others"""

    def run(self) -> None:
        """Train the missing runs, fit the power law, write the results and draw the figure."""
        if not 2 <= self.sizes <= len(_STACKS):
            raise ValueError(f"sizes must be in 2..{len(_STACKS)}, got {self.sizes}")
        size = _SIZES[self.preset]
        cells = [{"stack": stack, "batch_size": size["batch_size"]} for stack in list(_STACKS)[: self.sizes]]
        cells += [{"stack": _BATCHED, "batch_size": batch} for batch in size["batch_sizes"]]
        unique = [cell for number, cell in enumerate(cells) if cell not in cells[:number]]
        settings = {"shipped": variants.digest_shipped(), **size}
        rows = self.finish_rows(unique, settings, self._train)
        fit = fit_power_law(*frontier([row for row in rows if row["batch_size"] == size["batch_size"]]))
        self.write({**settings, "rows": rows, "fit": fit})
        draw_scaling(rows, size["batch_size"], fit, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size = _SIZES[self.preset]
        layers, width = _STACKS[cell["stack"]]
        shape = {"layers": layers, "width": width, "heads": width // 32, "feed_forward_width": 2 * width}
        overrides = {f"transformer.{name}": value for name, value in shape.items()}
        world = variants.build_variant(overrides, self.seed, self.device)
        encoded = variants.encode_splits(self.work / self.preset, size["frames"], self.seed)
        steps = [*range(0, size["train_steps"], size["watch_every"]), size["train_steps"]]
        trainee = WatchedTrainee(world.dynamics, *encoded, points=len(steps))
        config = replace(PRESETS["study"].world_training, batch_size=cell["batch_size"], seed=self.seed)
        config = replace(config, train_steps=size["train_steps"], log_every=size["watch_every"])
        batches = encoded[0].batches(cell["batch_size"], self.seed)
        step = variants.count_step(trainee, next(iter(batches(0, 1))))
        Phase(batches, config, self.run_folder / f"{width}-{cell['batch_size']}").run(trainee)
        trainee.eval().probe(next(iter(batches(0, 1))))
        losses = trainee.losses.tolist()
        curve = [{"step": at, "tflop": at * step / 1e12, "loss": loss} for at, loss in zip(steps, losses, strict=True)]
        parameters = variants.count_parameters(world.dynamics)
        return {"parameters": parameters, "step_gflop": step / 1e9, "loss": losses[-1], "curve": curve}


class WatchedTrainee(variants.EncodedTrainee):
    """An ``EncodedTrainee`` that saves its held-out losses with the weights, so that a resumed run keeps its curve."""

    def __init__(
        self, dynamics: MaskGITDynamics, training: variants.Encoded, held_out: variants.Encoded, points: int
    ) -> None:
        super().__init__(dynamics, training, held_out)
        self.losses: Tensor
        self.register_buffer("losses", torch.full((points,), torch.nan))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Return the held-out losses, and keep the one with the true latent actions."""
        probed = super().probe(batch)
        self.losses[int(self.losses.isfinite().sum())] = probed["held_out"]
        return probed


def frontier(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the compute in TFLOP and the loss of all points that no point of less compute equals or beats."""
    points = sorted((point["tflop"], point["loss"]) for row in rows for point in row["curve"] if point["tflop"] > 0)
    tflop, losses = np.array(points).T
    is_best = np.append(True, losses[1:] < np.minimum.accumulate(losses)[:-1])
    return tflop[is_best], losses[is_best]


def fit_power_law(tflop: np.ndarray, losses: np.ndarray) -> dict[str, Any]:
    """Fit log loss = log a - b log compute by least squares; ``r2`` is the share of variance explained."""
    design = np.stack([np.ones(len(tflop)), -np.log(tflop)], axis=1)
    (log_a, b), *_ = np.linalg.lstsq(design, np.log(losses), rcond=None)
    rest, spread = np.log(losses) - design @ [log_a, b], np.log(losses) - np.log(losses).mean()
    r2 = 1 - float((rest**2).sum() / (spread**2).sum()) if (spread**2).sum() > 0 else 0.0
    return {"a": float(np.exp(log_a)), "b": float(b), "r2": r2, "points": len(tflop)}


def draw_scaling(rows: list[dict[str, Any]], batch_size: int, fit: dict[str, Any], path: Path) -> None:
    """Draw the curves by size with the fit, the final loss by parameters, and the final loss by batch size."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
    sizes = [row for row in rows if row["batch_size"] == batch_size]
    batched = sorted((row for row in rows if row["stack"] == _BATCHED), key=lambda row: row["batch_size"])
    for row in sizes:
        points = [point for point in row["curve"] if point["tflop"] > 0]
        label = f"{row['stack']}, {row['parameters'] / 1e6:.2f}M"
        axes[0].plot([point["tflop"] for point in points], [point["loss"] for point in points], label=label)
    compute = frontier(sizes)[0]
    axes[0].plot(compute, fit["a"] * compute ** -fit["b"], "k--", label=f"{fit['a']:.2f} C^-{fit['b']:.3f}")
    axes[0].set(xscale="log", yscale="log", xlabel="training compute, TFLOP", ylabel="loss on validation levels, nats")
    axes[0].legend(fontsize=7)
    axes[1].plot([row["parameters"] for row in sizes], [row["loss"] for row in sizes], "o-")
    axes[1].set(xscale="log", xlabel=f"parameters, batch {batch_size}", ylabel="final loss")
    axes[2].plot([row["batch_size"] for row in batched], [row["loss"] for row in batched], "o-")
    axes[2].set(xscale="log", xlabel=f"batch size, {_BATCHED}", ylabel="final loss")
    variants.save_figure(figure, path)


if __name__ == "__main__":
    tyro.cli(ScalingFigure).run()
