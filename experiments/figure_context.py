"""Does the cache drift? Roll-outs four contexts long, with it and by full recomputation in a window.

    python -m experiments.figure_context --player "players.py:load_player(name)"

The cache equals a recomputation in which every layer sees ``context_length`` frames of the layer below, so that a
little of older frames still comes through. A recomputation over the last ``context_length`` frames alone, at every
frame, forgets them. Both are played from the same frames, latent actions and noise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import tyro
from torch import Tensor

import genie_gym
from experiments.clips import record_play
from genie_gym.bench.results import write_results
from genie_gym.metrics.controllability import bootstrap_interval
from genie_gym.metrics.image import pooled_psnr, psnr
from genie_gym.models.uncached import rollout_uncached


@dataclass(frozen=True, kw_only=True)
class ContextFigure:
    """Play long, three ways; draw PSNR by frame."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    player: str | None = None
    """Spec of a trained player for half of the clips."""
    mode: str = "hard"
    """Procgen's distribution mode."""
    clips: int = 48
    """Clips in all."""
    frames: int = 64
    """Frames generated."""
    seed: int = 0
    """Of recording, sampling and intervals."""
    json: Path = Path("experiments/results/context.json")
    """File of results."""
    picture: Path = Path("experiments/figures/context.png")
    """File of the figure."""

    def run(self) -> None:
        """Record, play, write, draw."""
        world = genie_gym.load(self.checkpoint)
        clips = record_play(self.player, "validation", self.mode, self.clips, self.seed, self.frames + 1)
        videos = torch.cat(list(clips.values()))
        labels, window = world.label(videos), world.config.context_length
        cached = world.rollout(videos[:, :1], labels, self.seed)
        windowed = rollout_uncached(world, videos[:, :1], labels, self.seed, window=window)
        rows = [self._score(videos, cached, windowed, frame) for frame in range(1, self.frames + 1)]
        later = rows[window - 1 :]
        settings = {"checkpoint": self.checkpoint, "mode": self.mode, "player": self.player, "seed": self.seed}
        settings |= {"clips": len(videos), "context_length": window, "precision": str(world.dynamics.precision)}
        lost = psnr(windowed[:, window:], videos[:, window:]) - psnr(cached[:, window:], videos[:, window:])
        beyond = {
            "frames": len(later),
            "cached_psnr": pooled_psnr(cached[:, window:], videos[:, window:]),
            "recomputed_psnr": pooled_psnr(windowed[:, window:], videos[:, window:]),
            "clip_psnr_lost_by_the_cache": float(lost.mean()),
            "interval": bootstrap_interval(lost.mean(dim=1), self.seed),
        }
        write_results(self.json, {**settings, "beyond_the_context": beyond, "rows": rows})
        self._draw(rows, window)

    def _score(self, videos: Tensor, cached: Tensor, windowed: Tensor, frame: int) -> dict[str, Any]:
        real = videos[:, frame]
        return {
            "t": frame,
            "cached_psnr": pooled_psnr(cached[:, frame], real),
            "recomputed_psnr": pooled_psnr(windowed[:, frame], real),
            "copy_last_psnr": pooled_psnr(videos[:, 0], real),
        }

    def _draw(self, rows: list[dict[str, Any]], context_length: int) -> None:
        names = {
            "cached_psnr": "with the cache",
            "recomputed_psnr": f"recomputed over the last {context_length} frames",
            "copy_last_psnr": "copying the first frame",
        }
        figure, axes = plt.subplots(figsize=(7, 4))
        for name, label in names.items():
            axes.plot([row["t"] for row in rows], [row[name] for row in rows], label=label)
        axes.axvline(context_length, color="grey", linewidth=0.8, linestyle=":")
        axes.set(xlabel="frame generated", ylabel="PSNR, dB", title=f"{self.checkpoint}: beyond the context")
        axes.legend()
        self.picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    tyro.cli(ContextFigure).run()
