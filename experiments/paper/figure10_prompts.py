"""The paper's figure 10: play the world from prompts unlike any frame that it was trained on.

    python -m experiments.paper.figure10_prompts --preset full --prompts FOLDER

The prompts are pictures in the folder (named KIND_anything, such as photo_1.png), scenes drawn by this script, frames
of other Procgen games, and, as the reference, CoinRun's own frames of validation levels. Every latent action is held
from each prompt.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw
from torch import Tensor

import genie_gym
from experiments.lib.variants import record_play
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.data.record import record
from genie_gym.envs.prompts import IMAGE_SUFFIXES, fit_prompt
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.image import psnr
from genie_gym.metrics.motion import explain_motion, play_each_action, track_player
from genie_gym.players.specs import parse_shares
from genie_gym.results.experiment import WorldExperiment
from genie_gym.system import list_files

_GAMES = ["ninja", "jumper", "climber", "leaper", "caveflyer", "maze", "bigfish", "fruitbot"]
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"games": ["ninja", "maze"], "frames_a_game": 2, "coinrun": 4, "drawn": 2, "held": 2},
    "full": {"games": _GAMES, "frames_a_game": 4, "coinrun": 32, "drawn": 8, "held": 8},
}
"""Sizes by preset: other ``games`` and frames of each, frames of CoinRun, drawn scenes, and steps an action is held."""
_PICTURES_A_KIND = 4  # drawn at most


@dataclass(frozen=True, kw_only=True)
class PromptsFigure(WorldExperiment):
    """Hold every latent action from each prompt, measure the motion, and draw the last frames."""

    name = "figure10_prompts"
    prompts: Path | None = None
    """folder of pictures named KIND_anything.png, two or more of each kind"""

    def run(self) -> None:
        """Gather the prompts, play, write the results, draw the figure."""
        size, world = _SIZES[self.preset], genie_gym.load(self.checkpoint, self.device)
        made = self._make_pictures()
        given = {} if self.prompts is None else read_pictures(self.prompts, world.config.height, world.config.width)
        rows, pictures = [], []
        for kind, frames in {**made, **given}.items():
            played = play_each_action(world, frames[:, None], size["held"], self.seed)
            rows.append({"kind": kind, "pictures": len(frames), **score_prompts(frames, played)})
            print(rows[-1])
            for frame, row in list(zip(frames, played.transpose(0, 1), strict=True))[:_PICTURES_A_KIND]:
                shown = frame if kind in made else torch.ones_like(frame)  # given pictures are not ours to publish
                pictures.append((kind, torch.cat([shown[None], row[0, :1], row[:, -1]])))
        folder = None if self.prompts is None else self.prompts.name
        self.write({"checkpoint": self.checkpoint, "prompts": folder, **size, "rows": rows})
        sheet = to_uint8(torch.stack([frames for _, frames in pictures]))
        write_image(self.picture, contact_sheet(sheet, [kind for kind, _ in pictures]))

    def _make_pictures(self) -> dict[str, Tensor]:
        """Return (M, C, 64, 64) prompts by kind: CoinRun's frames, drawn scenes, and other games' frames."""
        size = _SIZES[self.preset]
        others = [record_frames(game, size["frames_a_game"], self.seed) for game in size["games"]]
        return {
            "coinrun": record_play(size["coinrun"], self.seed).videos[:, 0],
            "drawn": to_float(np.stack([draw_scene(seed) for seed in range(size["drawn"])])),
            "other games": torch.cat(others),
        }


def read_pictures(folder: Path, height: int, width: int) -> dict[str, Tensor]:
    """Return the pictures of a folder by kind, the first word of their names: (M, C, height, width) each.

    Raises:
        ValueError: If there is no such folder, or a kind has fewer than two pictures to compare.
    """
    if not folder.is_dir():
        raise ValueError(f"prompts must be a folder, got {str(folder)!r}")
    found: dict[str, list[Tensor]] = {}
    for path in list_files(folder, IMAGE_SUFFIXES):
        frame = to_float(fit_prompt(path, height, width, longest=1).frames[0])
        found.setdefault(path.stem.split("_")[0], []).append(frame)
    few = {kind: len(frames) for kind, frames in found.items() if len(frames) < 2}
    if few or not found:
        raise ValueError(f"prompts must be two or more pictures of each kind, KIND_anything.png, got {few or 'none'}")
    return {kind: torch.stack(frames) for kind, frames in found.items()}


def score_prompts(frames: Tensor, played: Tensor) -> dict[str, Any]:
    """Score how well prompts (M, C, H, W) are rebuilt, and how far and how alike (A, M, T, C, H, W) roll-outs move."""
    went = track_player(played)[:, :, -1]
    return {
        "rebuilt_psnr": float(psnr(played[0, :, 0], frames).mean()),
        "mean_shift": float(went.norm(dim=-1).mean()),
        "change": float((played[:, :, -1] - played[:, :, 0]).abs().mean()),
        **{name: float(share) for name, share in explain_motion(went).items()},
    }


def draw_scene(seed: int) -> np.ndarray:
    """Draw a platform game (64, 64, 3) uint8 in thick lines on white: ground, boxes, a sun and a stick figure."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(image)
    ground = int(rng.integers(170, 220))
    pen.line([(0, ground), (256, ground)], fill="black", width=6)
    for _ in range(int(rng.integers(1, 4))):
        left, size = int(rng.integers(90, 220)), int(rng.integers(24, 52))
        pen.rectangle([left, ground - size, left + size, ground], outline="black", width=6)
    pen.ellipse([190, 16, 236, 62], outline="black", width=6)
    x = int(rng.integers(20, 70))
    pen.ellipse([x, ground - 90, x + 28, ground - 62], outline="black", width=6)
    pen.line([(x + 14, ground - 62), (x + 14, ground - 28)], fill="black", width=6)
    for foot in (0, 28):
        pen.line([(x + 14, ground - 28), (x + foot, ground)], fill="black", width=6)
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX))


def record_frames(game: str, frames: int, seed: int) -> Tensor:
    """Return (frames, C, 64, 64) of a game's validation levels, each 15 steps after the start of its recording."""
    config = RecordConfig(game=game, frames=16 * frames, num_envs=frames, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        record(restrict(config, "validation"), parse_shares(["sticky"]), Path(folder), progress=False)
        dataset = ClipDataset(folder, clip_length=1)
        return to_float(np.stack([dataset[16 * row + 15][0] for row in range(frames)]))


if __name__ == "__main__":
    tyro.cli(PromptsFigure).run()
