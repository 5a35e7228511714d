"""How many MaskGIT passes a frame needs: quality by passes, each beside the most (speed: ``genie-gym bench``).

    python -m experiments.table_maskgit_steps --player "players.py:load_player(name)"

Clips of validation levels are rolled out from one frame under inferred and random latent actions, with the same
seeds for every number of passes. The differences to the most passes are paired, clip by clip.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import genie_gym
from experiments.clips import record_play
from genie_gym.bench.results import write_results
from genie_gym.metrics.controllability import Played, bootstrap_interval, delta_psnr, play_clips
from genie_gym.metrics.image import pooled_psnr, psnr

ROLLOUT_FRAMES = (1, 4, 8, 15)
DELTA_FRAMES = (1, 4, 8)


@dataclass(frozen=True, kw_only=True)
class MaskgitSteps:
    """Score numbers of passes."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    maskgit_steps: tuple[int, ...] = (1, 2, 4, 8, 25)
    """Passes; the last is what the others are compared with."""
    player: str | None = None
    """Spec of a trained player for half of the clips."""
    mode: str = "hard"
    """Procgen's distribution mode."""
    clips: int = 256
    """Clips of 16 frames in all."""
    seed: int = 0
    """Of recording, sampling and intervals."""
    device: str = "cpu"
    """Where to play."""
    json: Path = Path("experiments/results/maskgit_steps.json")
    """File of results."""

    def run(self) -> None:
        """Record, play, print, write."""
        console = Console()
        world = genie_gym.load(self.checkpoint, self.device)
        videos = torch.cat(list(record_play(self.player, "validation", self.mode, self.clips, self.seed).values()))
        played = {}
        for steps in self.maskgit_steps:
            console.print(f"... {steps} passes")
            played[steps] = play_clips(world, videos, self.seed, maskgit_steps=steps)
        most = played[self.maskgit_steps[-1]]
        rows = [{"maskgit_steps": steps, **self._score(each, most)} for steps, each in played.items()]
        self._print(console, rows)
        about = {"checkpoint": self.checkpoint, "levels": "validation", "mode": self.mode, "player": self.player}
        settings = {"clips": len(videos), "seed": self.seed, "precision": str(world.dynamics.precision)}
        write_results(self.json, {**about, **settings, "rows": rows})

    def _score(self, played: Played, most: Played) -> dict[str, Any]:
        def clip_psnr(each: Played, frame: int) -> Tensor:
            return psnr(each.real[:, frame], each.inferred[:, frame])

        def compare(own: Tensor, other: Tensor) -> dict[str, Any]:
            return {"less_than_most": float((other - own).mean()), "interval": self._interval(other - own)}

        rollout = [
            {
                "t": t,
                "psnr": pooled_psnr(played.inferred[:, t], played.real[:, t]),
                "clip_psnr": float(clip_psnr(played, t).mean()),
                **compare(clip_psnr(played, t), clip_psnr(most, t)),
            }
            for t in ROLLOUT_FRAMES
        ]
        control = [
            {
                "t": t,
                "delta_psnr": float(delta_psnr(played, t).mean()),
                "own_interval": self._interval(delta_psnr(played, t)),
                **compare(delta_psnr(played, t), delta_psnr(most, t)),
            }
            for t in DELTA_FRAMES
        ]
        return {"rollout": rollout, "delta_psnr": control}

    def _interval(self, values: Tensor) -> tuple[float, float]:
        return bootstrap_interval(values, self.seed)

    def _print(self, console: Console, rows: list[dict[str, Any]]) -> None:
        table = Table(title="dB, and [interval of what is lost against the most passes]")
        names = [f"PSNR t={t}" for t in ROLLOUT_FRAMES] + [f"delta t={t}" for t in DELTA_FRAMES]
        for column in ("passes", *names):
            table.add_column(column)
        for row in rows:
            cells = [str(row["maskgit_steps"])]
            for part in (*row["rollout"], *row["delta_psnr"]):
                value = part.get("delta_psnr", part.get("clip_psnr"))
                cells.append(f"{value:.2f} [{part['interval'][0]:.2f}, {part['interval'][1]:.2f}]")
            table.add_row(*cells)
        console.print(table)


if __name__ == "__main__":
    tyro.cli(MaskgitSteps).run()
