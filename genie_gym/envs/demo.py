"""A demo of the latent actions: each is held from the same start, and all are shown side by side."""

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from einops import repeat
from tqdm import tqdm

from genie_gym.data.frames import contact_sheet, write_image
from genie_gym.data.video import write_video
from genie_gym.envs.arguments import require_count

_SCALE = 2  # pixels of the demo per pixel of a frame


def play_demo(out: Path, frames: int, seed: int, **settings: Any) -> float:
    """Hold each latent action from the same start frame with the same noise, through ``Genie-v0``.

    Args:
        out: Folder to write ``demo.png`` (a row for each action) and ``demo.gif`` (all actions at once) into.
        frames: Number of frames generated for each action.
        seed: Seed of the start frame and the sampling.
        **settings: Further arguments of ``Genie-v0``.

    Returns:
        Frames generated per second.

    Raises:
        ValueError: If ``out`` cannot be written or a setting is invalid.
    """
    require_count("frames", frames)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out {str(out)!r} cannot be written: {error}") from error
    env = gymnasium.make("Genie-v0", **settings)
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    actions, started = int(env.action_space.n), time.perf_counter()
    videos = np.array(
        [
            [env.reset(seed=seed)[0], *(env.step(action)[0] for _ in range(frames))]
            for action in tqdm(range(actions), unit="action")
        ]
    )
    rate = actions * frames / (time.perf_counter() - started)
    env.close()
    write_image(out / "demo.png", contact_sheet(videos))
    write_video(out / "demo.gif", _side_by_side(videos), fps=10)
    return rate


def _side_by_side(videos: np.ndarray) -> np.ndarray:
    """Arrange (A, T, H, W, 3) as 2 x A / 2 videos, scaled up by s = ``_SCALE``: (T, 2 H s, A / 2 W s, 3)."""
    even = np.pad(videos, [(0, len(videos) % 2), *4 * [(0, 0)]])  # (A, T, H, W, 3), one more and black if A is odd
    return repeat(even, "(k a) t h w c -> t (k h y) (a w x) c", k=2, y=_SCALE, x=_SCALE)
