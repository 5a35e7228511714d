"""Training samples of policies: at each frame, the last frames, the past actions, and the action taken there."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.labelling import NO_LABEL
from genie_gym.checks import require
from genie_gym.data.clips import Batch, ClipDataset, draw_numbers
from genie_gym.data.frames import to_float
from genie_gym.data.record import find_cuts
from genie_gym.data.shards import SHARD_SUFFIX, Shard, require_discrete
from genie_gym.system import list_files, replace_file

_UPLOADED_AT_ONCE = 16_384
"""Number of frames copied to a GPU at once."""


class Footage(NamedTuple):
    """Frames of recordings in memory, one source after the other."""

    frames: np.ndarray | Tensor
    """(F, H, W, 3) uint8; a tensor if on a GPU."""
    episode_starts: np.ndarray
    """(F,) bool: True for the first frame of an episode."""

    def upload(self, device: str) -> "Footage":
        """Return a copy whose frames are in a GPU's memory, or the footage itself if the device is ``cpu``."""
        if device == "cpu":
            return self
        there = torch.empty(self.frames.shape, dtype=torch.uint8, device=device)
        for first in range(0, len(there), _UPLOADED_AT_ONCE):  # memory-mapped frames are read in parts
            part = slice(first, first + _UPLOADED_AT_ONCE)
            there[part] = torch.tensor(self.frames[part])
        return Footage(there, self.episode_starts)


def read_footage(dataset: ClipDataset, folder: Path | None = None) -> Footage:
    """Read all frames of a dataset of any clip length, uncompressed: 12 kB each.

    They are read into this process's memory or, given a folder, into a file in it that is memory-mapped, so that all
    processes share one copy.
    """
    if folder is None:
        return Footage(np.concatenate(list(dataset.read_all())), dataset.episode_starts)
    path = folder / f"frames-{dataset.fingerprint[:8]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_frames(path, dataset)
    return Footage(np.load(path, mmap_mode="r", allow_pickle=False), dataset.episode_starts)


def _write_frames(path: Path, dataset: ClipDataset) -> None:
    """Write all frames of a dataset as NumPy's file of an array, whole or not at all."""
    shape = (dataset.num_frames, dataset.height, dataset.width, 3)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in dataset.read_all():
            file.write(np.ascontiguousarray(part).data)


class VideoWindows:
    """A window of the last T frames for each of F frames; where an episode has fewer, its first one is repeated."""

    def __init__(self, footage: Footage, context_length: int) -> None:
        self.frames, self._length = footage.frames, context_length
        numbers = np.arange(len(footage.frames))
        self._begins = np.maximum.accumulate(np.where(footage.episode_starts, numbers, 0))

    def videos_at(self, numbers: np.ndarray) -> Tensor:
        """Return the windows that end at frames ``numbers`` (M,): (M, T, C, H, W) float in [0, 1] on their device."""
        indices, frames = np.maximum(*self._window(numbers)), self.frames  # (M, T)
        return to_float(frames[torch.from_numpy(indices).to(frames.device) if isinstance(frames, Tensor) else indices])

    def batches(self, groups: Mapping[int, np.ndarray], each: int, first: int, number: int) -> Iterator[Batch]:
        """Yield ``number`` batches of a run, from its batch ``first`` on.

        A batch holds ``each`` windows from every group of frames, drawn with replacement; its ``numbers`` are their
        last frames. A group's key is a seed: with the number of the batch, it determines the windows drawn.
        """
        for batch in range(first, first + number):
            numbers = np.concatenate([draw_numbers(group, each, seed, batch) for seed, group in groups.items()])
            yield Batch(self.videos_at(numbers), torch.from_numpy(numbers))

    def _window(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return indices (M, T) of the windows' frames, maybe before their episode, and of its first frame (M, 1)."""
        return numbers[:, None] + np.arange(1 - self._length, 1), self._begins[numbers][:, None]


class Windows(VideoWindows):
    """Windows of frames and actions; past actions before the episode are ``num_actions``, which means none.

    Args:
        footage: F frames.
        actions: (F,) action taken at each frame; ``NO_LABEL`` if there is none.
        num_actions: Number of actions, A.
        context_length: Number of frames of a window, T.
        distributions: (F, A) probabilities of the actions, to learn from in place of ``actions``; by default none.
        latents: (F,) latent action at each frame or ``NO_LABEL``, for an auxiliary loss; by default none.
        num_latents: Number of latent actions, also if not all of them are in ``latents``; 0 without ``latents``.

    Raises:
        ValueError: If the numbers of frames, actions, distributions and latents differ, an action or a latent action is
            out of range, or ``num_latents`` is given alone.
    """

    def __init__(
        self,
        footage: Footage,
        actions: np.ndarray,
        num_actions: int,
        context_length: int,
        distributions: np.ndarray | None = None,
        latents: np.ndarray | None = None,
        num_latents: int = 0,
    ) -> None:
        super().__init__(footage, context_length)
        frames = len(footage.frames)
        _require_labels("actions", actions, frames, num_actions)
        if latents is None:
            require(num_latents == 0, "num_latents", num_latents, "0 without latents")
        else:
            _require_labels("latents", latents, frames, num_latents)
        if distributions is not None:
            wanted = frames, num_actions
            require(distributions.shape == wanted, "distributions", distributions.shape, f"{wanted}, one a frame")
        self.num_actions, self.num_latents = num_actions, num_latents
        self._actions, self._distributions, self._latents = actions, distributions, latents
        self.targets = np.flatnonzero(actions != NO_LABEL)
        self._shares = None if distributions is None else self._average(distributions)

    def past_at(self, numbers: np.ndarray) -> Tensor:
        """Return the past actions (M, T - 1) int64 of the windows that end at frames ``numbers`` (M,)."""
        window, first = self._window(numbers)  # (M, T), (M, 1)
        past = window[:, :-1]  # (M, T - 1)
        actions = self._actions[np.maximum(past, first)]
        return torch.from_numpy(np.where(past >= first, actions, self.num_actions))

    def ahead_at(self, numbers: np.ndarray, ahead: int) -> Tensor:
        """Return the next ``ahead`` actions (M, ahead) int64 after those at frames ``numbers`` (M,).

        They are ``NO_LABEL`` from the end of the episode on.
        """
        following = numbers[:, None] + np.arange(1, ahead + 1)  # (M, ahead), maybe after the last frame
        frames = np.minimum(following, len(self._actions) - 1)
        is_inside = (frames == following) & (self._begins[frames] == self._begins[numbers][:, None])
        return torch.from_numpy(np.where(is_inside, self._actions[frames], NO_LABEL))

    def latents_at(self, numbers: np.ndarray) -> Tensor:
        """Return the latent actions (M,) int64 at frames ``numbers`` (M,)."""
        assert self._latents is not None, "without latent actions there is no auxiliary loss"
        return torch.from_numpy(self._latents[numbers].astype(np.int64))

    def labels_at(self, numbers: np.ndarray) -> Tensor:
        """Return what to learn at frames ``numbers``: (M, A) float32 distributions, or without them (M,) actions."""
        if self._distributions is None:
            return torch.from_numpy(self._actions[numbers])
        return torch.from_numpy(self._distributions[numbers].astype(np.float32))

    def lifts(self, distributions: Tensor) -> Tensor:
        """Return the ratios (M, A) of distributions (M, A) to their mean over all frames with an action.

        They are 0 for actions whose mean is 0, which are those of no frame.
        """
        assert self._shares is not None, "without distributions there is no mean"
        shares = self._shares.to(distributions.device)
        return torch.where(shares > 0, distributions / shares, 0.0)

    def _average(self, distributions: np.ndarray) -> Tensor:
        """Return the mean (A,) float32 of the distributions (F, A) at frames with an action."""
        return torch.from_numpy(distributions[self.targets].mean(axis=0, dtype=np.float64).astype(np.float32))


def _require_labels(name: str, labels: np.ndarray, frames: int, number: int) -> None:
    """Raise ``ValueError`` unless there is a label in [0, number), or ``NO_LABEL``, for each frame."""
    require(labels.shape == (frames,), name, labels.shape, f"({frames},), one a frame")
    wrong = labels[(labels < NO_LABEL) | (labels >= number)]
    if wrong.size:
        raise ValueError(f"{name} must be in [0, {number}), got {wrong[0]}")


def read_real_actions(folder: Path) -> np.ndarray:
    """Return (F,) int64 real actions of all frames of a folder's shards; ``NO_LABEL`` at the last one of an episode.

    The action taken there ends the episode and no frame follows, so it has no latent action either.
    """
    parts = []
    for shard in _open_shards(folder):
        ends = np.append(shard.episode_starts[1:], True)
        actions = require_discrete(shard.path, shard.private(0, shard.num_frames)[0])
        parts.append(np.where(ends, NO_LABEL, actions.astype(np.int64)))
    return np.concatenate(parts)


def draw_labelled(actions: np.ndarray, labels: int, seed: int) -> np.ndarray:
    """Draw the indices (labels,) of frames with an action, without replacement.

    With the same seed, fewer samples are the first ones of more samples.

    Raises:
        ValueError: If there are fewer frames with an action.
    """
    known = np.flatnonzero(actions != NO_LABEL)
    require(1 <= labels <= len(known), "labels", labels, f"in 1..{len(known)}, the number of labelled samples")
    return np.random.default_rng(seed).permutation(known)[:labels]


def read_outcomes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (F,) bool each: whether the action at each frame was rewarded, and whether it ended the episode.

    The F frames are those of a folder's shards, in order. Both are False at the last frame of each game of a shard: the
    recording stops there, and what follows in the shard is another game, though it starts an episode too.
    """
    rewarded, ended = [], []
    for shard in _open_shards(folder):
        ends = np.append(shard.episode_starts[1:], False)
        ends[find_cuts(shard)] = False
        ended.append(ends)
        rewarded.append(ends & (shard.private(0, shard.num_frames)[1] > 0))
    return np.concatenate(rewarded), np.concatenate(ended)


def _open_shards(folder: Path) -> Iterator[Shard]:
    return map(Shard, list_files(folder, [SHARD_SUFFIX]))
