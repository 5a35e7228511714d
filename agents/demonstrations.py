"""Videos of a good player without its actions, and separate labelled samples (Genie, appendix E).

    python -m agents.demonstrations --mode easy --out runs/demonstrations-easy

Three folders of shards are written:

    videos/    the demonstrations; these files hold no real actions and no rewards
    oracle/    the same games with their actions, to train the oracle only
    labelled/  games with another seed, with their actions: labelled samples for the mapping
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.game import GameName, make_game
from genie_gym.data.shards import Shard, copy_frames
from genie_gym.failures import run_command
from genie_gym.metrics.held_out import LEVELS

_LABELLED_SEED = 1_000_003
"""Difference between the seed of the labelled games and that of the demonstrations."""


class DemonstrationFolders(NamedTuple):
    """The folders of shards that ``Demonstrations`` writes."""

    videos: Path
    oracle: Path
    labelled: Path


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """Record a player on training levels, with and without its actions."""

    out: Path = Path("runs/demonstrations")
    """folder in which ``videos``, ``oracle`` and ``labelled`` are made"""
    mode: GameName = "easy"
    """game: CoinRun on easy or hard levels, or another by name"""
    player: str = "skilled"
    """player spec as for ``genie-gym record``"""
    frames: int = 100_000
    """number of frames of demonstrations"""
    labelled_frames: int = 20_000
    """number of frames of labelled games"""
    seed: int = 0
    """seed of the games and the player"""
    num_envs: int = 64
    """number of games played at once"""
    workers: int = 1
    """number of recording processes"""

    def run(self) -> DemonstrationFolders:
        """Record the missing shards of all three parts and return their folders."""
        self.record_videos()
        self.record_labelled()
        return self.folders

    @property
    def folders(self) -> DemonstrationFolders:
        """The folders of the three parts, whether recorded yet or not."""
        return DemonstrationFolders(self.out / "videos", self.out / "oracle", self.out / "labelled")

    def record_videos(self) -> Path:
        """Record the missing shards of ``videos`` and ``oracle``, and return the folder ``videos``."""
        shards = self._record(self.folders.oracle, self.frames, self.seed)
        self.folders.videos.mkdir(parents=True, exist_ok=True)
        for shard in shards:
            video = self.folders.videos / shard.name
            if not video.exists() or Shard(video).num_frames != Shard(shard).num_frames:
                copy_frames(shard, video)
        return self.folders.videos

    def record_labelled(self) -> Path:
        """Record the missing shards of the labelled games and return their folder."""
        self._record(self.folders.labelled, self.labelled_frames, self.seed + _LABELLED_SEED)
        return self.folders.labelled

    def _record(self, folder: Path, frames: int, seed: int) -> list[Path]:
        game = make_game(self.mode)
        shards = game.record("training", self.player, folder, frames, seed, self.num_envs, self.workers)
        for shard in shards:
            require_levels(shard, "training")
        return shards


def require_levels(path: Path, levels: str) -> None:
    """Raise a ValueError unless all frames of a shard are of ``training``, ``validation`` or ``test`` levels."""
    first, number = LEVELS[levels]
    seeds = Shard(path).level_seeds
    wrong = seeds[(seeds < first) | (seeds >= first + number)]
    if wrong.size:
        raise ValueError(f"{path}: {levels} levels must be {first}..{first + number - 1}, got {int(np.min(wrong))}")


if __name__ == "__main__":
    print(run_command(Demonstrations))
