"""The command ``genie-gym label``: latent actions of a video as a table."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from genie_gym.checks import require
from genie_gym.data.fitting import Fit


@dataclass(frozen=True, kw_only=True)
class LabelCommand:
    """Infer the latent action of each transition of a video, and write them as a table."""

    video: tyro.conf.Positional[Path]
    """video file of any size and length"""
    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    fps: float | None = None
    """frames a second to read; by default the world's rate, or each frame if it has none"""
    fit: Fit = "crop"
    """method that changes a video's aspect ratio to the world's"""
    device: str = "cpu"
    """torch device to label on"""
    out: Path = Path("out/labels.csv")
    """CSV file of the frame that each transition starts from, its latent action, and the action's name"""

    def run(self) -> None:
        """Label the video, write the table and print the share of each action."""
        from genie_gym.serving.labelling import label_video
        from genie_gym.serving.loading import load_world
        from genie_gym.system import replace_file, require_folder

        require(not self.out.is_dir(), "--out", str(self.out), "a file, not a folder")
        require_folder(self.out.parent)
        world = load_world(self.checkpoint, self.device)
        labels = label_video(world, self.video, self.fps, self.fit)
        count = world.config.num_latent_actions
        names = world.config.action_names or tuple(map(str, range(count)))
        with replace_file(self.out) as temporary, temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("frame", "latent_action", "name"))
            table.writerows((frame, action, names[action]) for frame, action in enumerate(labels.tolist()))
        shares = np.bincount(labels, minlength=count) / len(labels)
        told = ", ".join(f"{names[action]} {shares[action]:.0%}" for action in np.argsort(-shares, kind="stable"))
        print(f"{len(labels)} transitions: {told}; see {self.out}")
