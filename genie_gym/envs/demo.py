"""The eight latent actions side by side, played through ``Genie-v0``."""

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from genie_gym.data.frames import contact_sheet, write_image
from genie_gym.data.video import write_video

SCALE = 2
"""Screen pixels for each pixel of a frame."""


def play_demo(out: Path, frames: int, seed: int, **settings: Any) -> float:
    """Start every latent action at the same frame with the same noise, and hold it.

    Args:
        out: Folder of ``demo.png``, a row for each action, and ``demo.gif``, all at once.
        frames: Steps for each action.
        seed: Of start frame and sampling.
        settings: Further arguments of ``Genie-v0``.

    Returns:
        Frames a second.

    Raises:
        ValueError: If ``out`` cannot be written or a setting is off.
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
    """(A, T, H, W, 3) -> (T, 2 H s, A / 2 W s, 3): all actions at once in two lines, scaled up by s."""
    videos = videos.repeat(SCALE, axis=2).repeat(SCALE, axis=3)
    half = -(-len(videos) // 2)
    spare = np.zeros((2 * half - len(videos), *videos.shape[1:]), dtype=np.uint8)
    lines = np.concatenate([videos, spare]).reshape(2, half, *videos.shape[1:])
    joined: np.ndarray = lines.transpose(2, 0, 3, 1, 4, 5).reshape(videos.shape[1], 2 * videos.shape[2], -1, 3)
    return joined
