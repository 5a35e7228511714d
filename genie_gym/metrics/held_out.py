"""Clips of CoinRun recorded on the spot, from levels that are set aside for what they are used for."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.configs import RecordConfig
from genie_gym.data.clips import Batch, ClipDataset, batches
from genie_gym.data.frames import to_float
from genie_gym.data.record import record
from genie_gym.players.specs import parse_shares

LEVELS = {"test": (20_000, 1_000), "validation": (10_000, 1_000), "training": (0, 10_000)}
"""First level seed, and how many: nothing is ever trained on, or chosen by, a test level."""
FRAMES = 32_768
"""Recorded for a draw of clips."""
CLIP_LENGTH = 16
"""Frames a clip, as in the paper."""


class Play(NamedTuple):
    """Clips, and what was done in them."""

    videos: Tensor
    """(B, T, C, H, W) float in [0, 1]."""
    real_actions: Tensor | None
    """(B, T - 1) int64, for metrics only; None where nobody knows."""


def restrict(config: RecordConfig, levels: str) -> RecordConfig:
    """The config on ``test``, ``validation`` or ``training`` levels.

    Raises:
        ValueError: If there are no such levels.
    """
    if levels not in LEVELS:
        raise ValueError(f"levels must be one of {sorted(LEVELS)}, got {levels!r}")
    first, number = LEVELS[levels]
    return replace(config, start_level=first, num_levels=number)


def join(plays: Mapping[str, Play]) -> Play:
    """All clips one after the other; without actions where one of them has none."""
    actions = [play.real_actions for play in plays.values()]
    known = [each for each in actions if each is not None]
    videos = torch.cat([play.videos for play in plays.values()])
    return Play(videos, torch.cat(known) if len(known) == len(actions) else None)


class Pool(NamedTuple):
    """Clips that may be drawn from a dataset."""

    dataset: ClipDataset
    numbers: np.ndarray
    """(M,) of the dataset's clips."""
    has_actions: bool = True
    """Whether anybody knows what was done in them."""

    def draw(self, clips: int, seed: int) -> Play:
        """``clips`` of them without replacement.

        Raises:
            ValueError: If there are fewer.
        """
        if not 1 <= clips <= len(self.numbers):
            raise ValueError(f"clips must be 1 to {len(self.numbers)}, the clips of that length, got {clips}")
        chosen = self.numbers[np.random.default_rng(seed).permutation(len(self.numbers))[:clips]]
        return read_clips(self.dataset, chosen, self.has_actions)

    def batches(self, batch_size: int, seed: int) -> Callable[[int, int], Iterator[Batch]]:
        """(first batch, number of batches) -> batches of float videos, with replacement."""

        def draw(first: int, number: int) -> Iterator[Batch]:
            for batch in batches(self.dataset, batch_size, seed, first, number, workers=1, clips=self.numbers):
                yield batch._replace(videos=to_float(batch.videos))

        return draw


def read_clips(dataset: ClipDataset, numbers: np.ndarray, has_actions: bool = True) -> Play:
    """The clips of those numbers, with their real actions unless they come from videos."""
    videos = to_float(np.stack([dataset[int(number)] for number in numbers]))
    return Play(videos, read_actions(dataset, numbers) if has_actions else None)


def read_actions(dataset: ClipDataset, numbers: np.ndarray) -> Tensor:
    """(B,) numbers of clips -> (B, T - 1) int64 real actions."""
    return torch.from_numpy(np.stack([dataset.private(int(number))[0] for number in numbers])).long()


def record_pool(
    folder: Path,
    spec: str,
    levels: str,
    mode: str,
    seed: int,
    frames: int | None = None,
    clip_length: int = CLIP_LENGTH,
) -> Pool:
    """Record play into a folder and open all its clips.

    Args:
        folder: Where to.
        spec: A player, as ``genie-gym record`` takes it.
        levels: ``test``, ``validation`` or ``training``.
        mode: Procgen's distribution mode.
        seed: Of the recording.
        frames: How many; ``FRAMES`` where not given.
        clip_length: Frames a clip.

    Raises:
        ValueError: If there are no such levels.
    """
    config = RecordConfig(
        mode=mode,  # type: ignore[arg-type]  # validated by RecordConfig
        frames=FRAMES if frames is None else frames,
        seed=seed,
    )
    record(restrict(config, levels), parse_shares([f"{spec}=1"]), folder, progress=False)
    dataset = ClipDataset(folder, clip_length=clip_length)
    return Pool(dataset, np.arange(len(dataset)))


def record_clips(spec: str, levels: str, mode: str, clips: int, seed: int, clip_length: int = CLIP_LENGTH) -> Play:
    """Clips drawn without replacement from a fresh recording; see ``record_pool``.

    Raises:
        ValueError: If there are no such levels or too few clips.
    """
    with tempfile.TemporaryDirectory() as folder:
        return record_pool(Path(folder), spec, levels, mode, seed, clip_length=clip_length).draw(clips, seed)


def record_play(
    player: str | None, levels: str, mode: str, clips: int, seed: int, clip_length: int = CLIP_LENGTH
) -> dict[str, Play]:
    """Sticky-random clips, and as many of the trained player where there is one; ``clips`` in all."""
    specs = {"sticky": "sticky"} | ({} if player is None else {"player": player})
    each = clips // len(specs)
    return {name: record_clips(spec, levels, mode, each, seed, clip_length) for name, spec in specs.items()}
