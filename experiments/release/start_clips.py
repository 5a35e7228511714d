"""Draw the start clips of the shipped world, and put them into a checkpoint in place of its own.

    python -m experiments.release.start_clips --checkpoint coinrun --picture out/start_clips.png

Each clip is four frames of play in the middle of a validation level, up to a moment when the player stands or runs on
the ground. Half of them are of easy levels and half of hard ones; half of either have an obstacle in sight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from einops import rearrange
from genie_gym.metrics.starts import draw_starts
from safetensors.torch import save_file

from genie_gym.configs import Mode
from genie_gym.data.frames import write_image
from genie_gym.models.loading import find_checkpoint

CLIPS = 32
"""Number of start clips of a shipped world."""
_POOL = 4
"""Number of starts drawn for each clip that is kept, so that there are enough of both kinds."""
_COLUMNS = 8  # clips in a row of the picture


def draw_release_clips(modes: Sequence[Mode] = ("easy", "hard"), seed: int = 0) -> np.ndarray:
    """Draw ``CLIPS`` start clips from validation levels, all of different levels of their mode.

    Returns:
        (``CLIPS``, 4, 64, 64, 3) uint8. Neighbours are of different modes, and of one mode alternately without and with
        an obstacle in sight.

    Raises:
        ValueError: If the starts drawn hold too few of either kind.
    """
    each, parts = CLIPS // len(modes) // 2, []
    for mode in modes:
        starts = draw_starts(mode, "validation", _POOL * CLIPS // len(modes), seed)
        for has_obstacle in (False, True):
            chosen = np.flatnonzero(starts.has_obstacle == has_obstacle)[:each]
            if len(chosen) < each:
                raise ValueError(f"seed must give {each} starts of each kind, got {len(chosen)} with {seed}")
            parts.append(starts.frames[chosen])
    return rearrange(np.stack(parts), "(m o) n t h w c -> (n o m) t h w c", m=len(modes))


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
        clips, folder = draw_release_clips(seed=self.seed), find_checkpoint(self.checkpoint)
        self.picture.parent.mkdir(parents=True, exist_ok=True)
        write_image(self.picture, rearrange(clips[:, -1], "(k a) h w c -> (k h) (a w) c", a=_COLUMNS))
        save_file({"start_clips": torch.from_numpy(clips)}, folder / "start_clips.safetensors")
        (folder / "start_frames.safetensors").unlink(missing_ok=True)
        print(f"{len(clips)} clips in {folder}; see {self.picture}")


if __name__ == "__main__":
    tyro.cli(StartClips).run()
