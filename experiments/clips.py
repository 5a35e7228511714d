"""Clips for experiments, recorded on the spot from levels that are set aside."""

import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor

from genie_gym.configs import RecordConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.data.players import parse_shares
from genie_gym.data.record import record

LEVELS = {"test": (20_000, 1_000), "validation": (10_000, 1_000), "training": (0, 10_000)}
FRAMES = 32_768


def record_clips(spec: str, levels: str, mode: str, clips: int, seed: int, clip_length: int = 16) -> Tensor:
    """(clips, clip_length, C, H, W) in [0, 1], drawn without replacement from a fresh recording.

    Args:
        spec: A player, as ``genie-gym record`` takes it.
        levels: ``test``, ``validation`` or ``training``.
        mode: Procgen's distribution mode.
        clips: How many.
        seed: Of the recording and the draw.
        clip_length: Frames a clip.

    Raises:
        ValueError: If there are no such levels or too few clips.
    """
    if levels not in LEVELS:
        raise ValueError(f"levels must be one of {sorted(LEVELS)}, got {levels!r}")
    first, number = LEVELS[levels]
    config = RecordConfig(
        mode=mode,  # type: ignore[arg-type]  # validated by RecordConfig
        frames=FRAMES,
        frames_per_shard=FRAMES,
        start_level=first,
        num_levels=number,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        record(config, parse_shares([f"{spec}=1"]), Path(folder))
        dataset = ClipDataset(folder, clip_length=clip_length)
        if clips > len(dataset):
            raise ValueError(f"clips must be at most {len(dataset)}, the clips of that length, got {clips}")
        chosen = np.random.default_rng(seed).permutation(len(dataset))[:clips]
        return to_float(np.stack([dataset[int(index)] for index in chosen]))


def record_play(
    player: str | None, levels: str, mode: str, clips: int, seed: int, clip_length: int = 16
) -> dict[str, Tensor]:
    """Sticky-random clips, and as many of the trained player where there is one; ``clips`` in all."""
    specs = {"sticky": "sticky"} | ({} if player is None else {"player": player})
    each = clips // len(specs)
    return {name: record_clips(spec, levels, mode, each, seed, clip_length) for name, spec in specs.items()}
