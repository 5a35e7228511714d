"""Score a checkpoint on levels it was never trained on, beside its baselines.

    python -m experiments.release.evaluate coinrun --player "players.py:load_player(name)"

Half of the clips are sticky-random play, half that of ``--player``; without one all are sticky-random.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import genie_gym
from experiments.results_file import write_results
from genie_gym.configs import RecordConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.data.players import parse_shares
from genie_gym.data.record import record
from genie_gym.metrics.controllability import play_clips
from genie_gym.metrics.evaluate import evaluate
from genie_gym.models.world_model import GenieWorldModel

LEVELS = {"test": (20_000, 1_000), "validation": (10_000, 1_000)}
TRAINING_LEVELS = (0, 10_000)
FRAMES = 32_768
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
        if self.levels not in LEVELS:
            raise ValueError(f"levels must be one of {sorted(LEVELS)}, got {self.levels!r}")
        console = Console()
        world = genie_gym.load(self.checkpoint, self.device)
        specs = {"sticky": "sticky"} | ({} if self.player is None else {"player": self.player})
        sets = {name: self._record(spec, LEVELS[self.levels]) for name, spec in specs.items()}
        fitted = torch.cat([self._record(spec, TRAINING_LEVELS) for spec in specs.values()])
        fitted = fitted[torch.randperm(len(fitted), generator=torch.Generator().manual_seed(self.seed))[:FITTED_CLIPS]]
        scores = evaluate(world, sets, fitted, self.seed, lambda stage: console.print(f"... {stage}"))
        print_scores(console, scores, self)
        if self.json is not None:
            about = {"checkpoint": self.checkpoint, "mode": self.mode, "levels": self.levels, "players": specs}
            write_results(self.json, {**about, **scores})
        if self.picture is not None:
            draw_picture(world, torch.cat([part[:PICTURE_CLIPS] for part in sets.values()]), self.seed, self.picture)

    def _record(self, spec: str, levels: tuple[int, int]) -> Tensor:
        """(clips, 16, C, H, W): clips drawn without replacement from a fresh recording."""
        config = RecordConfig(
            mode=self.mode,  # type: ignore[arg-type]  # validated by RecordConfig
            frames=FRAMES,
            frames_per_shard=FRAMES,
            start_level=levels[0],
            num_levels=levels[1],
            seed=self.seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            record(config, parse_shares([f"{spec}=1"]), Path(folder))
            dataset = ClipDataset(folder, clip_length=16)
            wanted = self.clips if self.player is None else self.clips // 2
            chosen = np.random.default_rng(self.seed).permutation(len(dataset))[:wanted]
            return to_float(np.stack([dataset[int(index)] for index in chosen]))


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
