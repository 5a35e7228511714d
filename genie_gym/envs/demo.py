"""A demo of the latent actions: each is held from the same start, and all are shown side by side."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange, repeat
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from genie_gym.data.frames import contact_sheet, write_image
from genie_gym.envs.arguments import require_count
from genie_gym.envs.genie_vector_env import GenieVectorEnv
from genie_gym.envs.rewards import zero_rewards
from genie_gym.envs.worlds import Checkpoint, open_world
from genie_gym.system import replace_file

_COLUMNS, _SCALE, _GAP = 4, 3, 6  # tiles in a row, pixels of a tile per pixel of a frame, pixels between tiles
_TITLE, _FONT_SIZE = 26, 18  # height of a tile's title and of its letters in pixels
_COLOURS = 64  # of each picture of the GIF
_FRAME_MS, _PAUSE_MS = 100, 800  # milliseconds of each frame, and of the first and the last one


def play_demo(
    out: Path, frames: int, seed: int, checkpoint: Checkpoint = "coinrun", device: str = "cpu", **settings: Any
) -> float:
    """Hold each latent action from the same start with the same noise, all in one pass, and show them side by side.

    Args:
        out: Folder to write ``demo.png`` (a row for each action) and ``demo.gif`` (a tile for each) into.
        frames: Number of frames generated for each action.
        seed: Seed of the start clip and the sampling.
        checkpoint: Name of a shipped checkpoint, or a folder.
        device: Torch device to play on.
        **settings: Further arguments of ``GenieVectorEnv``.

    Returns:
        Frames generated per second, without loading and compiling.

    Raises:
        ValueError: If ``out`` cannot be written or a setting is invalid.
    """
    require_count("frames", frames)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out {str(out)!r} cannot be written: {error}") from error
    handle = open_world(checkpoint, device)
    rows = handle.world.config.num_latent_actions
    envs = GenieVectorEnv(rows, checkpoint=handle, reward_fn=zero_rewards, **settings)
    actions, seeds = np.arange(rows), [seed] * rows
    envs.reset(seed=seeds)
    envs.step(actions)  # compiles
    played = [envs.reset(seed=seeds)[0]]
    started = time.perf_counter()
    played += [envs.step(actions)[0] for _ in tqdm(range(frames), unit="frame")]
    rate = rows * frames / (time.perf_counter() - started)
    envs.close()
    videos, titles = np.stack(played, axis=1), envs.get_action_meanings()
    write_image(out / "demo.png", contact_sheet(videos, titles))
    _write_gif(out / "demo.gif", lay_out(videos, titles))
    return rate


def lay_out(videos: np.ndarray, titles: Sequence[str]) -> np.ndarray:
    """Arrange (R, T, H, W, 3) uint8 videos in rows of four tiles, scaled up, each under its title.

    Returns:
        (T, height, width, 3) uint8.
    """
    count, frames, _, width = videos.shape[:4]
    bars = np.stack([_draw_title(title, width * _SCALE) for title in titles])
    tiles = repeat(videos, "r t h w c -> r t (h y) (w x) c", y=_SCALE, x=_SCALE)
    tiles = np.concatenate([repeat(bars, "r h w c -> r t h w c", t=frames), tiles], axis=2)
    missing = -count % _COLUMNS
    tiles = np.pad(tiles, [(0, missing), (0, 0), (0, _GAP), (0, _GAP), (0, 0)], constant_values=255)
    return rearrange(tiles, "(k a) t h w c -> t (k h) (a w) c", a=_COLUMNS)


def _write_gif(path: Path, frames: np.ndarray) -> None:
    """Write (T, H, W, 3) uint8 frames as a GIF that stands still at its ends, half as large as by ``write_video``."""
    pictures = [Image.fromarray(frame).quantize(_COLOURS, dither=Image.Dither.NONE) for frame in frames]
    durations = [_PAUSE_MS, *[_FRAME_MS] * (len(frames) - 2), _PAUSE_MS]
    with replace_file(path) as temporary:
        settings = {"append_images": pictures[1:], "duration": durations, "loop": 0, "optimize": True}
        pictures[0].save(temporary, format="GIF", save_all=True, **settings)


def _draw_title(title: str, width: int) -> np.ndarray:
    """Return a white bar, (``_TITLE``, width, 3) uint8, with a title in its middle."""
    bar = Image.new("RGB", (width, _TITLE), "white")
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(bar).text((width / 2, _TITLE / 2), title, "black", font, anchor="mm")
    return np.asarray(bar)
