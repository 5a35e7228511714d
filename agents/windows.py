"""What a policy learns from: at each frame its last frames, what was done in them, and what comes next."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.labelling import NO_LABEL
from genie_gym.data.clips import Batch, ClipDataset, draw_numbers
from genie_gym.data.frames import to_float
from genie_gym.data.shards import SHARD_SUFFIX, Shard

UPLOADED = 16_384
"""Frames at once."""


class Footage(NamedTuple):
    """Recordings in memory, one source after the other."""

    frames: np.ndarray | Tensor
    """(F, H, W, 3) uint8; a tensor on a GPU."""
    episode_starts: np.ndarray
    """(F,) bool."""

    def upload(self, device: str) -> "Footage":
        """The same in a GPU's memory; itself for ``cpu``."""
        if device == "cpu":
            return self
        there = torch.empty(self.frames.shape, dtype=torch.uint8, device=device)
        for first in range(0, len(there), UPLOADED):  # as they come from the disk
            there[first : first + UPLOADED] = torch.tensor(self.frames[first : first + UPLOADED])
        return Footage(there, self.episode_starts)


def read_footage(dataset: ClipDataset, folder: Path | None = None) -> Footage:
    """All of a dataset's frames, unpacked: 12 kB each.

    Args:
        dataset: Of any clip length.
        folder: Where the frames are kept unpacked, in a file that is mapped and not read: all processes that do so
            share one copy in memory. Without it, the frames are this process's own.
    """
    if folder is None:
        return Footage(np.concatenate(list(dataset.read_all())), dataset.episode_starts)
    path = folder / f"frames-{dataset.fingerprint[:8]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        _unpack(dataset, beside)
        os.replace(beside, path)
    return Footage(np.load(path, mmap_mode="r", allow_pickle=False), dataset.episode_starts)


def _unpack(dataset: ClipDataset, path: Path) -> None:
    shape, done = (dataset.num_frames, dataset.height, dataset.width, 3), 0
    frames = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for part in dataset.read_all():
        frames[done : done + len(part)] = part
        done += len(part)
    frames.flush()


class VideoWindows:
    """Every frame of some footage with its past within the episode, for which its first frame stands where it is short.

    Args:
        footage: F frames.
        context_length: Frames of a window.
    """

    def __init__(self, footage: Footage, context_length: int) -> None:
        self.frames, self._length = footage.frames, context_length
        numbers = np.arange(len(footage.frames))
        self._begins = np.maximum.accumulate(np.where(footage.episode_starts, numbers, 0))

    def videos_at(self, numbers: np.ndarray) -> Tensor:
        """Windows that end at frames ``numbers`` (M,): (M, T, C, H, W) float in [0, 1], where the footage is."""
        places, frames = np.maximum(*self._window(numbers)), self.frames
        if isinstance(frames, Tensor):
            return to_float(frames[torch.from_numpy(places).to(frames.device)])
        return to_float(frames[places])

    def _window(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames (M, T) that the windows want, and the first ones (M, 1) of their episodes."""
        return numbers[:, None] + np.arange(1 - self._length, 1), self._begins[numbers][:, None]


class Windows(VideoWindows):
    """Windows with the actions within them; ``num_actions`` stands for no action, as for a policy that plays.

    Args:
        footage: F frames.
        actions: (F,) the action at each frame, one source after the other; ``NO_LABEL`` where there is none.
        num_actions: They are below it.
        context_length: Frames of a window.

    Raises:
        ValueError: If the numbers of frames and actions differ, or an action is out of range.
    """

    def __init__(self, footage: Footage, actions: np.ndarray, num_actions: int, context_length: int) -> None:
        super().__init__(footage, context_length)
        frames = len(footage.frames)
        if actions.shape != (frames,):
            raise ValueError(f"actions must be ({frames},), one a frame, got {actions.shape}")
        wrong = actions[(actions < NO_LABEL) | (actions >= num_actions)]
        if wrong.size:
            raise ValueError(f"actions must be in [0, {num_actions}), got {wrong[0]}")
        self._actions, self._num_actions = actions, num_actions
        self.targets = np.flatnonzero(actions != NO_LABEL)

    def past_at(self, numbers: np.ndarray) -> Tensor:
        """(M, T - 1) int64: the actions within those windows."""
        wanted, first = self._window(numbers)
        before = wanted[:, :-1]
        actions = self._actions[np.maximum(before, first)]
        return torch.from_numpy(np.where(before >= first, actions, self._num_actions))

    def actions_at(self, numbers: np.ndarray) -> np.ndarray:
        """(M,) the actions at those frames."""
        return self._actions[numbers]

    def batches(
        self, batch_size: int, seed: int, first: int, number: int, among: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Batches of windows with the numbers of their frames, drawn with replacement.

        Args:
            batch_size: M.
            seed: With a batch's number, decides its windows.
            first: Number of the first batch.
            number: How many.
            among: Frames that may be drawn; all with an action where not given.
        """
        for batch in range(first, first + number):
            numbers = draw_numbers(self.targets if among is None else among, batch_size, seed, batch)
            yield Batch(self.videos_at(numbers), torch.from_numpy(numbers))


def read_real_actions(folder: Path) -> np.ndarray:
    """(F,) int64 real actions of a folder's shards, in order; ``NO_LABEL`` at the last frame of an episode.

    There the action taken leads out of the episode: no frame follows that a latent action model could label.
    """
    parts = []
    for path in sorted(folder.glob(f"*{SHARD_SUFFIX}")):
        shard = Shard(path)
        actions = shard.private(0, shard.num_frames)[0].astype(np.int64)
        ends = np.append(shard.episode_starts[1:], True)
        parts.append(np.where(ends, NO_LABEL, actions))
    return np.concatenate(parts)


def draw_labelled(actions: np.ndarray, labels: int, seed: int) -> np.ndarray:
    """Frames (labels,) among those with an action, whose actions are looked at; a seed's fewer are among its more.

    Raises:
        ValueError: If there are too few.
    """
    known = np.flatnonzero(actions != NO_LABEL)
    if not 1 <= labels <= len(known):
        raise ValueError(f"labels must be in 1..{len(known)}, the labelled samples there are, got {labels}")
    return np.random.default_rng(seed).permutation(known)[:labels]


def read_outcomes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of a folder's shards, in order: whether the action at each frame was rewarded, and whether it ended the game.

    Returns:
        Two (F,) bool arrays. Nobody knows of a shard's last frame: there both are False.
    """
    rewarded, ended = [], []
    for path in sorted(folder.glob(f"*{SHARD_SUFFIX}")):
        shard = Shard(path)
        ends = np.append(shard.episode_starts[1:], False)
        ended.append(ends)
        rewarded.append(ends & (shard.private(0, shard.num_frames)[1] > 0))
    return np.concatenate(rewarded), np.concatenate(ended)
