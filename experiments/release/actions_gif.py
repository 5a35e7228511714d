"""Write the README's first picture: each latent action held from one four-frame start, side by side and animated.

    python -m experiments.release.actions_gif

The start comes from the game itself: on a validation level the shipped player plays some steps and then stands still,
and the world is prompted with the last four frames. All tiles share that prompt and the sampling seed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

import genie_gym
from genie_gym.configs import RecordConfig
from genie_gym.data.frames import to_float, to_uint8
from genie_gym.data.procgen import open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import play_each_action
from genie_gym.players.base import parse_share
from genie_gym.results.files import ROOT

PROMPT_FRAMES, COLUMNS = 4, 4
STAND_STILL = 4
"""Procgen's real action that presses no key."""
CAPTION = 18
"""Height in pixels of the strip above a tile that holds its name."""
FRAME_MS, PAUSE_MS = 70, 800
"""Milliseconds that a frame is shown, and the first and the last one."""


@dataclass(frozen=True, kw_only=True)
class ActionsGif:
    """Settings of the animated picture."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a checkpoint's folder"""
    frames: int = 24
    """number of frames that each latent action is held"""
    seed: int = 2
    """seed of the games, the player and the sampling"""
    games: int = 16
    """number of games opened, of which one is shown"""
    game: int = 1
    """index of the game that is shown"""
    play_steps: int = 30
    """number of steps that the shipped player plays before it stands still"""
    still_steps: int = 12
    """number of steps without a key before the last prompt frame"""
    scale: int = 2
    """side of a tile in multiples of the world's frame"""
    out: Path = ROOT / "experiments" / "figures" / "actions.gif"
    """file of the animated picture to write"""

    def run(self) -> None:
        """Play to the start, hold every latent action, write the GIF."""
        world = genie_gym.load(self.checkpoint)
        played = play_each_action(world, to_float(self._prompt())[None], self.frames, self.seed)
        names = world.config.action_names or [str(action) for action in range(len(played))]
        titles = [f"{action}: {name}" for action, name in enumerate(names)]
        pictures = [self._tile(frames, titles) for frames in to_uint8(played[:, 0]).swapaxes(0, 1)]
        durations = [PAUSE_MS, *[FRAME_MS] * (len(pictures) - 2), PAUSE_MS]
        self.out.parent.mkdir(parents=True, exist_ok=True)
        pictures[0].save(self.out, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)

    def _prompt(self) -> np.ndarray:
        """Return (4, 64, 64, 3) uint8 frames, the last ones of a player that stands on the ground."""
        config, share = restrict(RecordConfig(mode="easy"), "validation"), parse_share("expert")
        # the player sees its velocity painted into the frame, the world does not: two copies play in lockstep
        clean, painted = (
            open_games(config, seed=self.seed, num_envs=self.games, paint_velocity=paint) for paint in (False, True)
        )
        choose, frames = share.player(self.seed), []
        for step in range(self.play_steps + self.still_steps):
            frames.append(clean.observe().frames[self.game].copy())
            still = np.full(self.games, STAND_STILL, dtype=np.int32)
            real_actions = choose(painted.observe().frames) if step < self.play_steps else still
            for games in (clean, painted):
                games.act(real_actions)
        for games in (clean, painted):
            games.close()
        return np.stack(frames[-PROMPT_FRAMES:])

    def _tile(self, frames: np.ndarray, titles: list[str]) -> Image.Image:
        """Lay one frame of each latent action, (A, H, W, 3) uint8, out in rows of four under their titles."""
        height, width = frames.shape[1] * self.scale, frames.shape[2] * self.scale
        rows = -(-len(frames) // COLUMNS)
        picture = Image.new("RGB", (COLUMNS * (width + 4) - 4, rows * (height + CAPTION)), "white")
        pen = ImageDraw.Draw(picture)
        for index, (frame, title) in enumerate(zip(frames, titles, strict=True)):
            left, top = index % COLUMNS * (width + 4), index // COLUMNS * (height + CAPTION)
            pen.text((left + 2, top + 3), title, fill="black")
            tile = Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)
            picture.paste(tile, (left, top + CAPTION))
        return picture.quantize(64, dither=Image.Dither.NONE)


if __name__ == "__main__":
    tyro.cli(ActionsGif).run()
