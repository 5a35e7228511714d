"""Make the shipped checkpoint: record, train both phases, save. Resumable; call it again until it says done.

    python -m experiments.release.train --out runs/release

On a GPU give ``--device cuda`` and ``--minutes`` under the length of a lease; every stage goes on where the
last call stopped. Then score it with ``genie-gym evaluate RUN/checkpoint``.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from genie_gym.cli import Train
from genie_gym.configs import RecordConfig
from genie_gym.data.held_out import restrict
from genie_gym.data.players import parse_shares
from genie_gym.data.record import record

RANDOM_PLAY = ("sticky=0.5", "random=0.1")
PLAYER_WEIGHT = 0.4


@dataclass(frozen=True, kw_only=True)
class Release:
    """Record, train, save."""

    out: Path = Path("runs/release")
    """Folder of recordings, runs and checkpoint."""
    preset: str = "coinrun"
    """A preset's name."""
    player: str = "expert"
    """Spec of a trained player for two fifths of the games; all play is random where empty."""
    modes: tuple[Literal["easy", "hard"], ...] = ("easy", "hard")
    """Procgen's distribution modes, in equal parts."""
    frames: int = 400_000
    """Frames of training levels, of all modes."""
    seed: int = 1
    """Of the recording."""
    minutes: float | None = None
    """Stop after these, in whatever stage but recording."""
    device: str = "cpu"
    """Where to train."""
    tokenizer_steps: int | None = None
    """In place of the preset's."""
    world_steps: int | None = None
    """In place of the preset's."""

    def run(self) -> None:
        """Record what is missing, then train."""
        started = time.monotonic()
        training = self._record("train", "training", self.frames)
        validation = self._record("validation", "validation", max(self.frames // 20, 2_000))
        spent = (time.monotonic() - started) / 60
        Train(
            data=training,
            start_data=validation,
            out=self.out,
            preset=self.preset,
            minutes=None if self.minutes is None else max(self.minutes - spent, 0.01),
            device=self.device,
            tokenizer_steps=self.tokenizer_steps,
            world_steps=self.world_steps,
        ).run()

    def _record(self, name: str, levels: str, frames: int) -> tuple[Path, ...]:
        """A folder for each mode."""
        trained = (f"{self.player}={PLAYER_WEIGHT}",) if self.player else ()
        workers = max(1, (os.cpu_count() or 2) // 2)
        folders = tuple(self.out / f"{name}-{mode}" for mode in self.modes)
        for mode, folder in zip(self.modes, folders, strict=True):
            each = frames // len(self.modes)
            config = RecordConfig(mode=mode, frames=each, frames_per_shard=50_000, seed=self.seed)
            record(restrict(config, levels), parse_shares((*RANDOM_PLAY, *trained)), folder, workers=workers)
        return folders


if __name__ == "__main__":
    tyro.cli(Release).run()
