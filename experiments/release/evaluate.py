"""Score a checkpoint on levels it was never trained on, beside its baselines.

    python -m experiments.release.evaluate coinrun --player "players.py:load_player(name)"

Half of the clips are sticky-random play, half that of ``--player``; without one all are sticky-random.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import genie_gym
from experiments.clips import record_play
from genie_gym.bench.results import write_results
from genie_gym.data.frames import contact_sheet, to_uint8, write_image
from genie_gym.metrics.controllability import play_clips
from genie_gym.metrics.evaluate import evaluate
from genie_gym.models.world_model import GenieWorldModel

FITTED_CLIPS = 128
PICTURE_CLIPS = 4


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Score a checkpoint on held-out levels."""

    checkpoint: Annotated[str, tyro.conf.Positional] = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    player: str | None = None
    """Spec of a trained player for half of the clips."""
    mode: str = "hard"
    """Procgen's distribution mode."""
    levels: str = "test"
    """test or validation."""
    clips: int = 256
    """Clips of 16 frames in all."""
    seed: int = 0
    """Of recording, sampling and intervals."""
    device: str = "cpu"
    """Where to play."""
    json: Path | None = None
    """File of results."""
    picture: Path | None = None
    """PNG of real over played clips."""

    def run(self) -> None:
        """Record, score, print, write."""
        console = Console()
        world = genie_gym.load(self.checkpoint, self.device)
        sets = record_play(self.player, self.levels, self.mode, self.clips, self.seed)
        training = record_play(self.player, "training", self.mode, self.clips, self.seed)
        fitted = torch.cat(list(training.values()))
        fitted = fitted[torch.randperm(len(fitted), generator=torch.Generator().manual_seed(self.seed))[:FITTED_CLIPS]]
        scores = evaluate(world, sets, fitted, self.seed, lambda stage: console.print(f"... {stage}"))
        print_scores(console, scores, self)
        if self.json is not None:
            about = {
                "checkpoint": self.checkpoint,
                "mode": self.mode,
                "levels": self.levels,
                "players": {name: self.player if name == "player" else name for name in sets},
            }
            write_results(self.json, {**about, **scores})
        if self.picture is not None:
            draw_picture(world, torch.cat([part[:PICTURE_CLIPS] for part in sets.values()]), self.seed, self.picture)


def print_scores(console: Console, scores: dict[str, Any], settings: Evaluation) -> None:
    """Two tables: single figures, and roll-outs by t."""
    rows = {"all": scores, **scores["sets"]}
    figures = Table(title=f"{settings.checkpoint}: CoinRun {settings.mode}, {settings.levels} levels")
    for column in ("clips", "n", "tokenizer dB", "k-means dB", "codes used", "actions used", "perplexity"):
        figures.add_column(column)
    for t in (row["t"] for row in scores["delta_psnr"]):
        figures.add_column(f"delta PSNR t={t}")
    for name, part in rows.items():
        tokenizer, lam = part["tokenizer"], part["lam"]
        cells = [name, str(part["clips"]), f"{tokenizer['psnr']:.2f}", f"{tokenizer['kmeans_psnr']:.2f}"]
        cells += [str(tokenizer["codes_used"]), str(lam["used"]), f"{lam['perplexity']:.2f}"]
        for row in part["delta_psnr"]:
            low, high = row["interval"]
            cells.append(f"{row['delta_psnr']:.2f} [{low:.2f}, {high:.2f}]")
        figures.add_row(*cells)
    console.print(figures)
    names = ("psnr", "copy_last_psnr", "shuffled_psnr", "random_psnr", "clip_psnr", "copy_last_clip_psnr")
    for name, part in rows.items():
        table = Table("t", *names, title=f"roll-out from one frame, dB: {name}")
        for row in part["rollout"]:
            table.add_row(str(row["t"]), *(f"{row[column]:.2f}" for column in names))
        console.print(table)


def draw_picture(world: GenieWorldModel, videos: Tensor, seed: int, path: Path) -> None:
    """For each clip a row of real frames, of inferred latent actions played, and of random ones."""
    played = play_clips(world, videos, seed)
    rows = torch.stack([played.real, played.inferred, played.random], dim=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, contact_sheet(to_uint8(rows.flatten(0, 1))))


if __name__ == "__main__":
    tyro.cli(Evaluation).run()
