"""The paper's figure 9 at our size: loss against compute for sizes of the dynamics, and for batch sizes.

    python -m experiments.figure9_scaling --preset full

As in the paper all sizes train for the same number of steps on the same batches, and so do the batch sizes. Tokenizer
and latent action model are those of the shipped world. Losses are on validation levels, under masks that never change.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from torch import Tensor

from experiments.rivals import count_step
from experiments.shipped_rivals import Encoded, EncodedTrainee, build_rival, digest_shipped, encode_splits
from genie_gym.data.clips import Batch
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import TrainedExperiment
from genie_gym.training.loop import Phase

STACKS = {
    "2 x 32": (2, 32, 1),
    "2 x 64": (2, 64, 2),
    "4 x 96": (4, 96, 3),
    "4 x 128": (4, 128, 4),
    "6 x 192": (6, 192, 6),
}
"""Layers, width, heads of 32; the feed-forward is twice as wide."""
BATCHED = "4 x 96"
"""The size whose batch size varies."""
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "train_steps": 12, "watch_every": 4, "batch_size": 2, "batch_sizes": [1, 2, 4]},
    "full": {"frames": 122_880, "train_steps": 400, "watch_every": 25, "batch_size": 8, "batch_sizes": [2, 8, 32]},
}
"""``batch_size`` is for the sizes of the dynamics."""


@dataclass(frozen=True, kw_only=True)
class ScalingFigure(TrainedExperiment):
    """Train the sizes and the batch sizes, fit, draw."""

    sizes: int = len(STACKS)
    """Sizes of the dynamics for now, the smallest first; call again for the others."""

    @property
    def name(self) -> str:
        return "figure9_scaling"

    def run(self) -> None:
        """Train what is missing, fit, write, draw."""
        if not 2 <= self.sizes <= len(STACKS):
            raise ValueError(f"sizes must be in 2..{len(STACKS)}, got {self.sizes}")
        size = SIZES[self.preset]
        cells = [{"stack": stack, "batch_size": size["batch_size"]} for stack in list(STACKS)[: self.sizes]]
        cells += [{"stack": BATCHED, "batch_size": batch} for batch in size["batch_sizes"]]
        unique = [cell for number, cell in enumerate(cells) if cell not in cells[:number]]
        settings = {"shipped": digest_shipped(), **size}
        rows = self.finish_rows(unique, settings, self._train)
        by_size = [row for row in rows if row["batch_size"] == size["batch_size"]]
        fit = fit_power_law(*frontier(by_size))
        self.write({**settings, "rows": rows, "fit": fit})
        draw(rows, size["batch_size"], fit, self.picture)

    def _train(self, cell: dict[str, Any]) -> dict[str, Any]:
        size = SIZES[self.preset]
        layers, width, heads = STACKS[cell["stack"]]
        shape = {"layers": layers, "width": width, "heads": heads, "feed_forward_width": 2 * width}
        overrides = {f"transformer.{name}": value for name, value in shape.items()}
        world = build_rival(overrides, self.seed, self.device)
        encoded = encode_splits(self.work / self.preset, size["frames"], self.seed)
        steps = [*range(0, size["train_steps"], size["watch_every"]), size["train_steps"]]
        trainee = WatchedTrainee(world.dynamics, *encoded, points=len(steps))
        config = replace(
            PRESETS["study"].world_training,
            batch_size=cell["batch_size"],
            train_steps=size["train_steps"],
            log_every=size["watch_every"],
            seed=self.seed,
        )
        batches = encoded[0].batches(cell["batch_size"], self.seed)
        step = count_step(trainee, next(iter(batches(0, 1))))
        folder = self.run_folder / f"{width}-{cell['batch_size']}"
        Phase(batches, config, folder).run(trainee)
        trainee.eval().probe(next(iter(batches(0, 1))))
        losses = trainee.losses.tolist()
        curve = [{"step": at, "tflop": at * step / 1e12, "loss": loss} for at, loss in zip(steps, losses, strict=True)]
        parameters = sum(weight.numel() for weight in world.dynamics.parameters())
        return {"parameters": parameters, "step_gflop": step / 1e9, "loss": losses[-1], "curve": curve}


class WatchedTrainee(EncodedTrainee):
    """Keeps the held-out losses that the loop asks for, also over an interruption."""

    def __init__(self, dynamics: MaskGITDynamics, training: Encoded, held_out: Encoded, points: int) -> None:
        super().__init__(dynamics, training, held_out)
        self.losses: Tensor
        self.register_buffer("losses", torch.full((points,), torch.nan))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        probed = super().probe(batch)
        self.losses[int(self.losses.isfinite().sum())] = probed["held_out"]
        return probed


def frontier(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest loss of any run at each compute at which it sinks below all losses at less compute: TFLOP, nats."""
    points = sorted((point["tflop"], point["loss"]) for row in rows for point in row["curve"] if point["tflop"] > 0)
    kept: list[tuple[float, float]] = []
    for tflop, loss in points:
        if not kept or loss < kept[-1][1]:
            kept.append((tflop, loss))
    return np.array([tflop for tflop, _ in kept]), np.array([loss for _, loss in kept])


def fit_power_law(tflop: np.ndarray, losses: np.ndarray) -> dict[str, Any]:
    """Log loss = log a - b log compute by least squares: ``a``, ``b`` and the share of variance explained, ``r2``."""
    design = np.stack([np.ones(len(tflop)), -np.log(tflop)], axis=1)
    (log_a, b), *_ = np.linalg.lstsq(design, np.log(losses), rcond=None)
    rest = np.log(losses) - design @ [log_a, b]
    spread = np.log(losses) - np.log(losses).mean()
    r2 = 1 - float((rest**2).sum() / (spread**2).sum()) if (spread**2).sum() > 0 else 0.0
    return {"a": float(np.exp(log_a)), "b": float(b), "r2": r2, "points": len(tflop)}


def draw(rows: list[dict[str, Any]], batch_size: int, fit: dict[str, Any], path: Path) -> None:
    """Curves by size with the fit, final loss by parameters, final loss by batch size."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
    sizes = [row for row in rows if row["batch_size"] == batch_size]
    batched = sorted((row for row in rows if row["stack"] == BATCHED), key=lambda row: row["batch_size"])
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
    axes[2].set(xscale="log", xlabel=f"batch size, {BATCHED}", ylabel="final loss")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    tyro.cli(ScalingFigure).run()
