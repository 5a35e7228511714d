"""Measure quality and speed by the number of MaskGIT steps per frame.

    python -m experiments.ablations.steps --preset full

Clips of validation levels, half sticky-random and half a trained player's, are rolled out from one frame under inferred
and random latent actions, with the same seeds for every number of steps. Scores are compared clip by clip with those of
the largest number of steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import tyro
from rich.console import Console

import genie_gym
from experiments.lib.variants import record_play, save_figure
from genie_gym.metrics.maskgit_steps import compare_maskgit_steps
from genie_gym.metrics.report import tabulate_maskgit_steps
from genie_gym.results.experiment import WorldExperiment

_SIZES = {"smoke": ((1, 2), 4), "full": ((1, 2, 4, 8, 25), 96)}
"""By preset: numbers of MaskGIT steps that are compared, and number of clips."""


@dataclass(frozen=True, kw_only=True)
class StepsAblation(WorldExperiment):
    """Compare a world's quality and speed by the number of MaskGIT steps."""

    name = "ablation_steps"
    player: str = "expert"
    """spec of the player of half of the clips, as for ``genie-gym record``"""
    mode: str = "hard"
    """Procgen distribution mode of the clips"""

    def run(self) -> None:
        """Record clips, play them, print and write the results, draw the figure."""
        world = genie_gym.load(self.checkpoint, self.device)
        maskgit_steps, clips = _SIZES[self.preset]
        videos = record_play(clips, self.seed, self.mode, player=self.player).videos
        rows, speed = compare_maskgit_steps(world, videos, maskgit_steps, self.seed)
        Console().print(tabulate_maskgit_steps(rows, speed, len(videos)))
        about = {"checkpoint": self.checkpoint, "levels": "validation", "mode": self.mode, "player": self.player}
        precision = str(world.dynamics.precision).removeprefix("torch.")
        self.write({**about, "clips": len(videos), "precision": precision, "rows": rows, "speed": speed})
        draw_steps(rows, speed, self.picture)


def draw_steps(rows: list[dict[str, Any]], speed: dict[str, float], path: Path) -> None:
    """Draw ``fvd_procgen`` and delta PSNR against frames per second, a point for each number of MaskGIT steps."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    fps = [speed[str(row["maskgit_steps"])] for row in rows]
    scores = {
        "fvd_procgen": [row["fvd_procgen"] for row in rows],
        "delta PSNR, t = 4, dB": [part["delta_psnr"] for row in rows for part in row["delta_psnr"] if part["t"] == 4],
    }
    for axis, (label, values) in zip(axes, scores.items(), strict=True):
        axis.plot(fps, values, "o-")
        for x, y, row in zip(fps, values, rows, strict=True):
            axis.annotate(str(row["maskgit_steps"]), (x, y), textcoords="offset points", xytext=(4, 4))
        axis.set(xscale="log", xlabel="frames/s (labels: MaskGIT steps)", ylabel=label)
    save_figure(figure, path)


if __name__ == "__main__":
    tyro.cli(StepsAblation).run()
