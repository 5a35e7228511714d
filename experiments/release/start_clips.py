"""Draw the start clips of the shipped world, and put them into a checkpoint in place of its own.

    python -m experiments.release.start_clips --checkpoint coinrun --picture out/start_clips.png

Each clip is four frames of play in the middle of a validation level, in which the player stands or runs on the ground.
Half of them are of easy levels and half of hard ones. Half of either have an obstacle in sight; the others have the
freest way to the right among four times as many starts.
"""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from einops import rearrange

from genie_gym.configs import Mode
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float, write_image
from genie_gym.data.procgen import open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import track_player
from genie_gym.metrics.starts import RIGHT, draw_starts, hold_key
from genie_gym.models.hub import require_own
from genie_gym.models.loading import find_checkpoint
from genie_gym.nn.weights import write_tensors

CLIPS = 32
"""Number of start clips of a shipped world."""
_POOL = 4
"""Number of starts drawn for each clip that is kept."""
_SIGHT_STEPS = 16
"""Number of steps for which right is held to see how far the way is free."""
_COLUMNS = 8  # clips in a row of the picture


def draw_release_clips(modes: Sequence[Mode] = ("easy", "hard"), seed: int = 0) -> np.ndarray:
    """Draw ``CLIPS`` start clips from validation levels, all of one mode from different levels.

    Returns:
        (``CLIPS``, 4, 64, 64, 3) uint8. Neighbours are of different modes; every other clip of a mode has an obstacle
        in sight.
    """
    clips = np.stack([_draw_both_kinds(mode, CLIPS // len(modes), seed) for mode in modes])
    return rearrange(clips, "m n t h w c -> (n m) t h w c")


def _draw_both_kinds(mode: Mode, number: int, seed: int) -> np.ndarray:
    """Return (number, 4, 64, 64, 3) uint8 clips: one with a free way to the right, one with an obstacle, and so on.

    In none of them does right end the game within the steps tried: obstacles only stop the player.
    """
    starts, config = draw_starts(mode, "validation", _POOL * number, seed), RecordConfig(mode=mode)
    open_twins = functools.partial(open_games, restrict(config, "validation"), seed=seed)
    with contextlib.closing(open_twins(num_envs=len(starts.frames))) as games:
        videos, lasts = hold_key(games, starts.states, RIGHT, _SIGHT_STEPS)
    goes_on = lasts == _SIGHT_STEPS
    ways = np.where(goes_on, track_player(to_float(videos))[:, -1, 0].numpy(), 0)
    free = np.argsort(-ways, kind="stable")[: number // 2]
    others = np.setdiff1d(np.flatnonzero(starts.has_obstacle & goes_on), free)[: number // 2]
    return starts.frames[np.stack([free, others], axis=1).flatten()]


@dataclass(frozen=True, kw_only=True)
class StartClips:
    """Draw start clips, show their last frames, and put them into a checkpoint, whose weights stay as they are."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a checkpoint's folder"""
    picture: Path = Path("out/start_clips.png")
    """PNG file to write the last frame of each clip to"""
    seed: int = 0
    """seed of games and play"""

    def run(self) -> None:
        """Draw, write the picture and replace the checkpoint's clips."""
        require_own(self.checkpoint)
        folder = find_checkpoint(self.checkpoint)
        clips = draw_release_clips(seed=self.seed)
        self.picture.parent.mkdir(parents=True, exist_ok=True)
        write_image(self.picture, rearrange(clips[:, -1], "(k a) h w c -> (k h) (a w) c", a=_COLUMNS))
        write_tensors(folder / "start_clips.safetensors", {"start_clips": torch.from_numpy(clips)})
        (folder / "start_clips.safetensors").chmod(0o644)
        (folder / "start_frames.safetensors").unlink(missing_ok=True)
        print(f"{len(clips)} clips in {folder}; see {self.picture}")


if __name__ == "__main__":
    tyro.cli(StartClips).run()
