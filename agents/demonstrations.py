"""Videos of a good player, without its actions, and a few labelled samples apart from them (Genie, appendix E).

    python -m agents.demonstrations --mode easy --out runs/demonstrations-easy

Three folders of shards come of it:

    videos/    the demonstrations; the files hold no real action and no reward
    oracle/    the same games with their actions, which the oracle alone is trained on
    labelled/  other games, drawn with another seed, with their actions: samples for the mapping
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tyro

from genie_gym.configs import RecordConfig
from genie_gym.data.record import record
from genie_gym.data.shards import Shard, copy_frames
from genie_gym.metrics.held_out import LEVELS, restrict
from genie_gym.players.specs import parse_share

LABELLED_SEED = 1_000_003
"""Added to the seed for the labelled games."""


class DemonstrationFolders(NamedTuple):
    """Where the three parts lie."""

    videos: Path
    oracle: Path
    labelled: Path


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """What is recorded."""

    out: Path = Path("runs/demonstrations")
    """Folder of the three."""
    mode: Literal["easy", "hard"] = "easy"
    """Procgen's distribution mode."""
    player: str = "expert"
    """Spec of the player, as ``genie-gym record`` takes it."""
    frames: int = 100_000
    """Of the demonstrations."""
    labelled_frames: int = 20_000
    """Of the games that labelled samples are drawn from."""
    seed: int = 0
    """Of the games."""
    num_envs: int = 64
    """Games played at once."""
    workers: int = 1
    """Processes that record."""

    def run(self) -> DemonstrationFolders:
        """Record what is missing, on training levels."""
        self.record_videos()
        self.record_labelled()
        return self.folders

    @property
    def folders(self) -> DemonstrationFolders:
        """Where the three parts lie, or will."""
        return DemonstrationFolders(self.out / "videos", self.out / "oracle", self.out / "labelled")

    def record_videos(self) -> None:
        """Record what is missing of the demonstrations, with and without their actions."""
        shards = self._record(self.folders.oracle, self.frames, self.seed)
        self.folders.videos.mkdir(parents=True, exist_ok=True)
        for shard in shards:
            video = self.folders.videos / shard.name
            if not video.exists() or Shard(video).num_frames != Shard(shard).num_frames:
                copy_frames(shard, video)

    def record_labelled(self) -> None:
        """Record what is missing of the labelled games."""
        self._record(self.folders.labelled, self.labelled_frames, self.seed + LABELLED_SEED)

    def _record(self, folder: Path, frames: int, seed: int) -> list[Path]:
        config = RecordConfig(mode=self.mode, frames=frames, num_envs=self.num_envs, seed=seed)
        shares = [parse_share(self.player)]
        shards = record(restrict(config, "training"), shares, folder, workers=self.workers)
        for shard in shards:
            require_levels(shard, "training")
        return shards


def require_levels(path: Path, levels: str) -> None:
    """Raise a ValueError unless every frame of a shard is of those levels: ``training``, ``validation``, ``test``."""
    first, number = LEVELS[levels]
    seeds = Shard(path).level_seeds
    wrong = seeds[(seeds < first) | (seeds >= first + number)]
    if wrong.size:
        raise ValueError(f"{path}: {levels} levels must be {first}..{first + number - 1}, got {int(np.min(wrong))}")


if __name__ == "__main__":
    print(tyro.cli(Demonstrations).run())
