"""A demo of the latent actions: each is held from the same start, and all are shown side by side."""

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from genie_gym.data.frames import contact_sheet, write_image
from genie_gym.data.video import write_video

_SCALE = 2  # pixels of the demo per pixel of a frame


def play_demo(out: Path, frames: int, seed: int, **settings: Any) -> float:
    """Hold each latent action from the same start frame with the same noise, through ``Genie-v0``.

    Args:
        out: Folder to write ``demo.png`` (a row for each action) and ``demo.gif`` (all at once) into.
        frames: Number of frames generated for each action.
        seed: Seed of the start frame and the sampling.
        **settings: Further arguments of ``Genie-v0``.

    Returns:
        Frames generated per second.

    Raises:
        ValueError: If ``out`` cannot be written or a setting is invalid.
    """
    if frames < 1:
        raise ValueError(f"frames must be positive, got {frames}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out {str(out)!r} cannot be written: {error}") from error
    env = gymnasium.make("Genie-v0", **settings)
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    actions, started = int(env.action_space.n), time.perf_counter()
    rows = []
    for action in tqdm(range(actions), unit="action"):
        row = [env.reset(seed=seed)[0]]
        row += [env.step(action)[0] for _ in range(frames)]
        rows.append(row)
    rate = actions * frames / (time.perf_counter() - started)
    env.close()
    videos = np.array(rows)
    write_image(out / "demo.png", contact_sheet(videos))
    write_video(out / "demo.gif", _side_by_side(videos), fps=10)
    return rate


def _side_by_side(videos: np.ndarray) -> np.ndarray:
    """Arrange (A, T, H, W, 3) in two lines of A / 2 videos, scaled up by s: (T, 2 H s, A / 2 W s, 3)."""
    videos = videos.repeat(_SCALE, axis=2).repeat(_SCALE, axis=3)
    half = -(-len(videos) // 2)
    spare = np.zeros((2 * half - len(videos), *videos.shape[1:]), dtype=np.uint8)
    lines = np.concatenate([videos, spare]).reshape(2, half, *videos.shape[1:])
    joined: np.ndarray = lines.transpose(2, 0, 3, 1, 4, 5).reshape(videos.shape[1], 2 * videos.shape[2], -1, 3)
    return joined
