"""Clips of CoinRun recorded for an evaluation, with disjoint levels for training, validation and test."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.clips import Batch, ClipDataset, batches
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.record import record
from genie_gym.data.shards import require_discrete
from genie_gym.metrics.action_groups import PROCGEN_GROUPS, ActionGroups
from genie_gym.players.specs import parse_shares

LEVELS = {"test": (20_000, 1_000), "validation": (10_000, 1_000), "training": (0, 10_000)}
"""First level seed and number of levels. Test levels are used neither for training nor for choosing a model."""
RECORDED_FRAMES = 32_768
"""Number of frames that a pool records by default."""
CLIP_LENGTH = 16
"""Number of frames in a clip, as in the paper."""


class EvaluationClips(NamedTuple):
    """Clips with the real actions taken in them."""

    videos: Tensor
    """(B, T, C, H, W) float in [0, 1]."""
    real_actions: Tensor | None
    """(B, T - 1) int64, used by metrics only; None if unknown."""
    others: Tensor | None = None
    """(B, T, C, H, W) other real clips of the same kind, to compare real with real; None if there are too few."""


def restrict(config: RecordConfig, levels: str) -> RecordConfig:
    """Return the config restricted to ``test``, ``validation`` or ``training`` levels; ``ValueError`` for any other."""
    require(levels in LEVELS, "levels", levels, f"one of {sorted(LEVELS)}")
    first, number = LEVELS[levels]
    return replace(config, start_level=first, num_levels=number)


def join_clips(sets: Mapping[str, EvaluationClips]) -> EvaluationClips:
    """Concatenate sets of clips; real actions and other clips are None if any set has none."""

    def join(parts: list[Tensor | None]) -> Tensor | None:
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None

    actions, others = ([getattr(clips, name) for clips in sets.values()] for name in ("real_actions", "others"))
    return EvaluationClips(torch.cat([clips.videos for clips in sets.values()]), join(actions), join(others))


class ClipPool(NamedTuple):
    """The clips of a dataset that may be drawn."""

    dataset: ClipDataset
    numbers: np.ndarray
    """(M,) indices of clips in the dataset."""
    groups: ActionGroups | None = PROCGEN_GROUPS
    """Groupings of the real actions recorded with the frames; None if there are none to compare."""

    def known_groups(self) -> ActionGroups:
        """Return the groupings of the real actions; ``ValueError`` if there are none."""
        if self.groups is None:
            raise ValueError("data must be recorded with one integer action a frame, got none")
        return self.groups

    def draw(self, clips: int, seed: int, with_others: bool = False) -> EvaluationClips:
        """Draw clips without replacement, and if ``with_others`` as many more, where the pool has them.

        Raises:
            ValueError: If the pool has fewer than ``clips``.
        """
        if not 1 <= clips <= len(self.numbers):
            raise ValueError(f"clips must be 1 to {len(self.numbers)}, the number of clips in the pool, got {clips}")
        shuffled = self.numbers[np.random.default_rng(seed).permutation(len(self.numbers))]
        drawn = read_clips(self.dataset, shuffled[:clips], self.groups is not None)
        if not with_others or len(shuffled) < 2 * clips:
            return drawn
        return drawn._replace(others=read_clips(self.dataset, shuffled[clips : 2 * clips], has_actions=False).videos)

    def batches(self, batch_size: int, seed: int) -> Callable[[int, int], Iterator[Batch]]:
        """Return a function ``(first batch, number of batches) -> batches`` of float videos, drawn with replacement."""

        def draw(first: int, number: int) -> Iterator[Batch]:
            for batch in batches(self.dataset, batch_size, seed, first, number, workers=1, clips=self.numbers):
                yield batch._replace(videos=to_float(batch.videos))

        return draw


def read_clips(dataset: ClipDataset, numbers: np.ndarray, has_actions: bool = True) -> EvaluationClips:
    """Return the clips with the given indices, with their real actions unless ``has_actions`` is False."""
    videos = to_float(np.stack([dataset[int(number)] for number in numbers]))
    return EvaluationClips(videos, read_actions(dataset, numbers) if has_actions else None)


def read_actions(dataset: ClipDataset, numbers: np.ndarray) -> Tensor:
    """Return the (B, T - 1) int64 real actions of the clips with the given (B,) indices."""
    actions = [require_discrete("data", dataset.private(int(number))[0]) for number in numbers]
    return torch.from_numpy(np.stack(actions)).long()


def record_pool(folder: Path, spec: str, levels: str, mode: str, seed: int, frames: int | None = None) -> ClipPool:
    """Record a player into a folder and return all clips of the recording.

    Args:
        folder: Folder to write.
        spec: Player, in the syntax of ``genie-gym record``.
        levels: ``test``, ``validation`` or ``training``.
        mode: Procgen distribution mode.
        seed: Seed of the recording.
        frames: Number of frames; ``RECORDED_FRAMES`` if None.

    Raises:
        ValueError: If there are no such levels.
    """
    frames = RECORDED_FRAMES if frames is None else frames
    config = RecordConfig(mode=mode, frames=frames, seed=seed)  # type: ignore[arg-type]  # validated by RecordConfig
    record(restrict(config, levels), parse_shares([f"{spec}=1"]), folder, progress=False)
    dataset = ClipDataset(folder, clip_length=CLIP_LENGTH)
    return ClipPool(dataset, np.arange(len(dataset)))


def record_clips(spec: str, levels: str, mode: str, clips: int, seed: int) -> EvaluationClips:
    """Record a player and draw clips without replacement; arguments as in ``record_pool``.

    Raises:
        ValueError: If there are no such levels or too few clips.
    """
    with tempfile.TemporaryDirectory() as folder:
        return record_pool(Path(folder), spec, levels, mode, seed).draw(clips, seed)


def record_clips_by_player(
    player: str | None, levels: str, mode: str, clips: int, seed: int
) -> dict[str, EvaluationClips]:
    """Record clips by player: half ``sticky`` and half ``player``, or all ``sticky`` if ``player`` is None."""
    specs = {"sticky": "sticky"} | ({} if player is None else {"player": player})
    return {name: record_clips(spec, levels, mode, clips // len(specs), seed) for name, spec in specs.items()}
