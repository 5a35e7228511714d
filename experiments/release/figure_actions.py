"""Draw every latent action held: the README's animation, and a contact sheet for each of several starts.

    python -m experiments.release.figure_actions --preset full --levels test

``actions.gif`` shows each latent action held from the same four frames of the game: on a validation level, the shipped
player has played some steps and then stands still. The sheets show actions held from starts on the ground, time to the
right, a row for each action: all of them with their names, and beside it left, right, jump and stay without names and
in a drawn order, which ``rows`` of the results tell. A viewer should be able to name these four at sight, an action
should look alike on all sheets, and the last frames should still show a level of the game.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image, ImageDraw

import genie_gym
from genie_gym.checks import require
from genie_gym.configs import RecordConfig
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.data.procgen import open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import play_each_action
from genie_gym.metrics.starts import draw_starts
from genie_gym.players.specs import parse_share
from genie_gym.results.experiment import WorldExperiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"starts": 2, "frames": 2, "modes": ["hard"]},
    "full": {"starts": 6, "frames": 16, "modes": ["easy", "hard"]},
}
"""Number of starts of each mode, and of frames that an action is held on the sheets."""
_TILES = 8  # frames of a row without names, after the start
_GIF_FRAMES, _PROMPT_FRAMES = 24, 4
_GIF_SEED, _GAMES, _GAME = 2, 16, 1  # the level of game 1 of 16 has ground, a ledge and a box in reach
_PLAY_STEPS, _STILL_STEPS = 30, 12  # before the start
_STAND_STILL = 4  # Procgen's real action that presses no key
_COLUMNS, _SCALE, _CAPTION = 4, 2, 18  # tiles per row, enlargement, height of a tile's caption in pixels
_FRAME_MS, _PAUSE_MS = 70, 800  # milliseconds of each frame, and of the first and the last one


@dataclass(frozen=True, kw_only=True)
class ActionsFigure(WorldExperiment):
    """Hold every latent action, and draw the animation and the sheets."""

    name = "figure_actions"
    levels: Literal["test", "validation"] = "validation"
    """levels of the sheets; ``test`` is for a finished world only"""
    unnamed: tuple[str, ...] = ("left", "right", "jump", "stay")
    """names of the latent actions on the sheets without names"""

    def run(self) -> None:
        """Play from the start on the ground and from those of the sheets, draw, and write the order of the rows.

        Raises:
            ValueError: If the world has no latent action of one of the names ``unnamed``.
        """
        size, world = _SIZES[self.preset], genie_gym.load(self.checkpoint, self.device)
        names = world.config.action_names or tuple(map(str, range(world.config.num_latent_actions)))
        require(set(self.unnamed) <= set(names), "unnamed", self.unnamed, f"among the world's actions, {names}")
        played = play_each_action(world, to_float(stand_on_the_ground())[None], _GIF_FRAMES, _GIF_SEED)
        self._write_gif(to_uint8(played[:, 0]), [f"{action}: {name}" for action, name in enumerate(names)])
        rows, generator = [], np.random.default_rng(self.seed)
        for mode in size["modes"]:
            starts = draw_starts(mode, self.levels, size["starts"], self.seed)
            held = to_uint8(play_each_action(world, to_float(starts.frames), size["frames"], self.seed))
            for start, level in enumerate(starts.level_seeds.tolist()):
                place = self.picture.with_name(f"{self.name}-{mode}-{start}.png")
                write_image(place, contact_sheet(held[:, start], names))
                order = generator.permutation(self.unnamed).tolist()
                shown = held[[names.index(name) for name in order], start, :: max(1, size["frames"] // _TILES)]
                sheet = contact_sheet(shown).repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
                write_image(place.with_stem(f"{place.stem}-unnamed"), sheet)
                rows.append({"mode": mode, "start": start, "level": level, "order": order})
        self.write({"checkpoint": self.checkpoint, "levels": self.levels, **size, "names": list(names), "rows": rows})

    def _write_gif(self, videos: np.ndarray, titles: list[str]) -> None:
        """Write (A, T, H, W, 3) uint8 videos with their titles, side by side, as ``actions.gif``."""
        pictures = [_lay_out(frames, titles) for frames in videos.swapaxes(0, 1)]
        durations = [_PAUSE_MS, *[_FRAME_MS] * (len(pictures) - 2), _PAUSE_MS]
        path = self.picture.with_name("actions.gif")
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)


def stand_on_the_ground() -> np.ndarray:
    """Return (4, 64, 64, 3) uint8: the last frames of a player that has come to rest on a validation level."""
    config, share = restrict(RecordConfig(mode="easy"), "validation"), parse_share("expert")
    # The player sees its velocity painted into the frame, the world does not: two copies are played in lockstep.
    both = [open_games(config, seed=_GIF_SEED, num_envs=_GAMES, paint_velocity=paint) for paint in (False, True)]
    choose, frames = share.player(_GIF_SEED), []
    for step in range(_PLAY_STEPS + _STILL_STEPS):
        clean, painted = (games.observe().frames for games in both)
        frames.append(clean[_GAME].copy())
        real_actions = choose(painted) if step < _PLAY_STEPS else np.full(_GAMES, _STAND_STILL, dtype=np.int32)
        for games in both:
            games.act(real_actions)
    for games in both:
        games.close()
    return np.stack(frames[-_PROMPT_FRAMES:])


def _lay_out(frames: np.ndarray, titles: list[str]) -> Image.Image:
    """Return a picture of (A, H, W, 3) uint8 frames, one for each latent action, in rows of four under titles."""
    height, width = frames.shape[1] * _SCALE, frames.shape[2] * _SCALE
    rows = -(-len(frames) // _COLUMNS)
    picture = Image.new("RGB", (_COLUMNS * (width + 4) - 4, rows * (height + _CAPTION)), "white")
    pen = ImageDraw.Draw(picture)
    for index, (frame, title) in enumerate(zip(frames, titles, strict=True)):
        left, top = index % _COLUMNS * (width + 4), index // _COLUMNS * (height + _CAPTION)
        pen.text((left + 2, top + 3), title, fill="black")
        tile = Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(tile, (left, top + _CAPTION))
    return picture.quantize(64, dither=Image.Dither.NONE)


if __name__ == "__main__":
    tyro.cli(ActionsFigure).run()
