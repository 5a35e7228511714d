"""The paper's figure 10: play the world from pictures unlike any frame that it was trained on.

    python -m experiments.paper.figure10_prompts --preset full --prompts FOLDER

The prompts are pictures in the folder (named KIND_anything, such as photo_1.png), scenes and games with a figure in the
middle that are drawn here, frames of other Procgen games, and, as the reference, CoinRun's own frames: the player on
the ground in the middle of validation levels. Every latent action is held from each prompt.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

import genie_gym
from experiments.lib.drawn_prompts import draw_figure_scene, draw_scene
from experiments.lib.prompt_scores import explain_with_intervals, score_kept, score_obedience
from genie_gym.checks import require
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.data.record import record
from genie_gym.envs.prompts import IMAGE_SUFFIXES, fit_prompt
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.image import psnr
from genie_gym.metrics.motion import play_each_action, track_player
from genie_gym.metrics.starts import draw_starts
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import parse_shares
from genie_gym.results.experiment import WorldExperiment
from genie_gym.system import list_files

_GAMES = ["ninja", "jumper", "climber", "leaper", "caveflyer", "maze", "bigfish", "fruitbot"]
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"modes": ["easy"], "starts_a_mode": 2, "drawn": 2, "games": ["ninja"], "frames_a_game": 2, "figures": 2},
    "full": {
        "modes": ["easy", "hard"],
        "starts_a_mode": 12,
        "drawn": 12,
        "games": _GAMES,
        "frames_a_game": 3,
        "figures": 48,
    },
}
"""Sizes by preset: ``modes`` of CoinRun and starts of each, drawn scenes, other ``games`` and frames of each, and drawn
games with a figure in the middle."""
_FRAMES = {"smoke": [1, 2], "full": [1, 4, 8, 16]}
"""Numbers of frames after which a picture is scored and shown; actions are held up to the last of them."""
_PICTURES_A_KIND = 3  # shown at most


@dataclass(frozen=True, kw_only=True)
class PromptsFigure(WorldExperiment):
    """Hold every latent action from each prompt, score what is kept and what obeys, and draw left and right."""

    name = "figure10_prompts"
    prompts: Path | None = None
    """folder of pictures named KIND_anything.png, two or more of each kind"""

    def run(self) -> None:
        """Gather the prompts, play, write the results, draw the figure.

        Raises:
            ValueError: If the world has no latent actions named left and right, or there are no such pictures.
        """
        size, frames = _SIZES[self.preset], _FRAMES[self.preset]
        world = genie_gym.load(self.checkpoint, self.device)
        names = world.config.action_names
        require({"left", "right"} <= set(names), "action names", names, "with left and right among them")
        ways = {way: names.index(way) for way in ("left", "right")}
        given = {} if self.prompts is None else read_pictures(self.prompts, world.config.height, world.config.width)
        made = self._make_pictures()
        rows, strips = [], []
        for kind, pictures in {**made, **given}.items():
            played = play_each_action(world, pictures[:, None], frames[-1], self.seed)
            rows.append({"kind": kind, **score_prompts(world, pictures, played, frames, ways, self.seed)})
            print(rows[-1])
            if kind in made:  # given pictures are not ours to publish
                strips += [(kind, strip) for strip in lay_strips(pictures, played[list(ways.values())], frames)]
        folder = None if self.prompts is None else self.prompts.name
        self.write({"checkpoint": self.checkpoint, "prompts": folder, **size, "rows": rows})
        heads = ["prompt", "rebuilt", *(f"{way} {frame}" for way in ways for frame in frames)]
        sheet = to_uint8(torch.stack([strip for _, strip in strips]))
        write_image(self.picture, contact_sheet(sheet, [kind for kind, _ in strips], heads))

    def _make_pictures(self) -> dict[str, Tensor]:
        """Return (M, C, 64, 64) prompts by kind: CoinRun's own, drawn ones, and other games' frames."""
        size = _SIZES[self.preset]
        own = [
            draw_starts(mode, "validation", size["starts_a_mode"], self.seed).frames[:, -1] for mode in size["modes"]
        ]
        return {
            "coinrun": to_float(np.concatenate(own)),
            "figures": to_float(np.stack([draw_figure_scene(number) for number in range(size["figures"])])),
            "scenes": to_float(np.stack([draw_scene(seed) for seed in range(size["drawn"])])),
            "other games": torch.cat([record_frames(game, size["frames_a_game"], self.seed) for game in size["games"]]),
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


def score_prompts(
    world: GenieWorldModel, pictures: Tensor, played: Tensor, frames: list[int], ways: dict[str, int], seed: int
) -> dict[str, Any]:
    """Score a world that was played from pictures of a kind.

    Args:
        world: World model in eval mode.
        pictures: (M, C, H, W) prompts.
        played: (A, M, T, C, H, W) videos of every latent action held from them, by ``play_each_action``.
        frames: Numbers of frames after which to score what is kept; the last one counts for motion.
        ways: Latent actions named ``left`` and ``right``.
        seed: Seed of the bootstrap intervals.
    """
    tracks = track_player(played)
    went = tracks[:, :, frames[-1]]
    return {
        "pictures": len(pictures),
        "rebuilt_psnr": float(psnr(played[0, :, 0], pictures).mean()),
        "kept": score_kept(world, played, tracks, frames),
        "mean_shift": float(went.norm(dim=-1).mean()),
        **explain_with_intervals(went, seed),
        "obedience": score_obedience(went[..., 0], **ways),
    }


def lay_strips(pictures: Tensor, played: Tensor, frames: list[int]) -> list[Tensor]:
    """Return a strip (N, C, H, W) for each of at most three prompts, evenly spaced.

    Args:
        pictures: (M, C, H, W) prompts, the first frames of the strips.
        played: (W, M, T, C, H, W) videos that begin with the rebuilt prompts, the second frames.
        frames: Numbers of the frames that follow, of each of the W videos.
    """
    numbers = np.linspace(0, len(pictures) - 1, min(len(pictures), _PICTURES_A_KIND)).round().astype(int).tolist()
    return [
        torch.cat([pictures[number][None], played[0, number, :1], *played[:, number, frames]]) for number in numbers
    ]


def record_frames(game: str, frames: int, seed: int) -> Tensor:
    """Return (frames, C, 64, 64) of a game's validation levels, each 15 steps after the start of its recording."""
    config = RecordConfig(game=game, frames=16 * frames, num_envs=frames, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        record(restrict(config, "validation"), parse_shares(["sticky"]), Path(folder), progress=False)
        dataset = ClipDataset(folder, clip_length=1)
        return to_float(np.stack([dataset[16 * row + 15][0] for row in range(frames)]))


if __name__ == "__main__":
    tyro.cli(PromptsFigure).run()
