"""The command ``genie-gym label``: latent actions of a video, or of a LeRobot dataset, as a table."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from genie_gym.checks import require
from genie_gym.data.fitting import Fit


@dataclass(frozen=True, kw_only=True)
class LabelCommand:
    """Infer the latent action of each transition of a video, and write them as a table."""

    video: tyro.conf.Positional[Path]
    """video file of any size and length, or folder of a LeRobot dataset"""
    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    fps: float | None = None
    """frames a second to read; by default the world's rate, or each frame if it has none"""
    fit: Fit = "crop"
    """method that changes a video's aspect ratio to the world's"""
    camera: str | None = None
    """camera of a LeRobot dataset; by default the only one"""
    device: str = "cpu"
    """torch device to label on"""
    out: Path = Path("out/labels.csv")
    """CSV file of the frame that each transition starts from, its latent action, and the action's name; for a dataset
    after the video's path"""

    def run(self) -> None:
        """Label the video, write the table and print the share of each action."""
        from genie_gym.data.lerobot import is_lerobot
        from genie_gym.data.sources import require_camera
        from genie_gym.serving.loading import load_world
        from genie_gym.system import replace_file, require_folder

        require(not self.out.is_dir(), "--out", str(self.out), "a file, not a folder")
        require_camera([self.video], self.camera)
        require_folder(self.out.parent)
        world = load_world(self.checkpoint, self.device)
        count = world.config.num_latent_actions
        names, counts = world.config.action_names or tuple(map(str, range(count))), np.zeros(count, np.int64)
        columns = ("frame", "latent_action", "name")
        with replace_file(self.out) as temporary, temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("video", *columns) if is_lerobot(self.video) else columns)
            for where, start, labels in self._label(world):
                counts += np.bincount(labels, minlength=count)
                for frame, action in enumerate(labels.tolist(), start):
                    table.writerow((*where, frame, action, names[action]))
            require(bool(counts.any()), "video", str(self.video), "of two frames or more at the rate of reading")
        shares = counts / counts.sum().clip(1)
        told = ", ".join(f"{names[action]} {shares[action]:.0%}" for action in np.argsort(-shares, kind="stable"))
        print(f"{counts.sum()} transitions: {told}; see {self.out}")

    def _label(self, world: Any) -> Iterator[tuple[tuple[str, ...], int, np.ndarray]]:
        """Yield the path of each episode's file within a dataset, its first frame, and its labels."""
        from genie_gym.data.lerobot import is_lerobot
        from genie_gym.serving.labelling import label_episodes, label_video

        if not is_lerobot(self.video):
            yield (), 0, label_video(world, self.video, self.fps, self.fit)
            return
        for path, start, labels in label_episodes(world, self.video, self.camera, self.fps, self.fit):
            yield (path.relative_to(self.video).as_posix(),), start, labels
