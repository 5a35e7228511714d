"""Latent actions and features of whole recordings, inferred by a frozen latent action model and cached on disk."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from genie_gym.data.clips import ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.models.base import require_threads
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.weights import digest_weights, write_tensors

NO_LABEL = -1
"""Label of an episode's last frame, which no transition follows."""
_STRETCH = 64
"""Largest number of transitions labelled in one row of a batch."""
_ROWS = 16
"""Number of rows in a batch."""


class Stretch(NamedTuple):
    """Frames of one episode that are labelled in one row of a batch."""

    first: int
    """First frame that is read: before ``start``, since a label depends on past frames too."""
    start: int
    """Frame from which the first transition with a kept label starts."""
    stop: int
    """Frame to which the last transition leads; it is read as well."""


def digest_labels(world: GenieWorldModel) -> str:
    """Return a digest of all weights that a world's labels depend on; it identifies the labelling model."""
    model = world.latent_action_model
    return digest_weights(model) + (digest_weights(world.tokenizer) if model.reads_tokens else "")


def label_dataset(world: GenieWorldModel, dataset: ClipDataset, cache: Path | None = None) -> np.ndarray:
    """Infer the latent action of every transition of a dataset, from its two frames and those before in the episode.

    Args:
        world: Frozen world whose latent action model labels.
        dataset: Dataset of any clip length.
        cache: Folder in which labels are saved, and read if it has those of the same frames and model.

    Returns:
        (F,) int64 for the F frames of all sources in order: entry t is the action from frame t to t + 1, or
        ``NO_LABEL`` at the last frame of an episode.

    Raises:
        ValueError: If a file of the cache is damaged.
    """
    about, infer = _identify(world, dataset), lambda videos: world.label(videos).cpu().numpy()
    blank = np.array(NO_LABEL)
    return keep_labels(_name_file(cache, "labels", about), about, lambda: _infer(world, dataset, infer, blank))


def label_and_encode_dataset(world: GenieWorldModel, dataset: ClipDataset) -> np.ndarray:
    """Infer the latent action and the code of every transition, (F, 2) int64; otherwise as ``label_dataset``."""

    def infer(videos: Tensor) -> np.ndarray:
        require_threads()
        return torch.stack(world.latent_action_model.label_and_encode(_show(world, videos)), dim=-1).cpu().numpy()

    return _infer(world, dataset, infer, np.full(2, NO_LABEL))


def describe_dataset(world: GenieWorldModel, dataset: ClipDataset, cache: Path | None = None) -> np.ndarray:
    """Return the latent action model's features of every transition, (F, D) float16; NaN where ``NO_LABEL`` would be.

    Arguments and errors are those of ``label_dataset``.
    """
    about, infer = _identify(world, dataset), lambda videos: describe_transitions(world, videos).half().cpu().numpy()
    pair = torch.zeros(1, 2, 3, dataset.height, dataset.width, device=world.device)
    blank = np.full_like(infer(pair)[0, 0], np.nan)
    return keep_labels(_name_file(cache, "features", about), about, lambda: _infer(world, dataset, infer, blank))


@torch.no_grad()
def describe_transitions(world: GenieWorldModel, videos: Tensor) -> Tensor:
    """Return the latent action model's continuous features (B, T - 1, D) of videos (B, T, C, H, W)."""
    require_threads()
    return world.latent_action_model.features(_show(world, videos))


def _show(world: GenieWorldModel, videos: Tensor) -> Tensor:
    """Return what the world's latent action model reads: the videos, or their tokens."""
    return world.tokenizer.encode(videos) if world.latent_action_model.reads_tokens else videos


def keep_labels(path: Path | None, about: dict[str, str], make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the labels saved in a file, or make and save them; without a path, only make them.

    Raises:
        ValueError: If the file is damaged, or its metadata are not ``about``.
    """
    if path is not None and path.exists():
        return _read_labels(path, about)
    labels = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"labels": torch.from_numpy(labels)}, about)
    return labels


def _identify(world: GenieWorldModel, dataset: ClipDataset) -> dict[str, str]:
    return {"labels_of": digest_labels(world), "data": dataset.fingerprint}


def _name_file(cache: Path | None, what: str, about: dict[str, str]) -> Path | None:
    return None if cache is None else cache / f"{what}-{about['labels_of'][:8]}-{about['data'][:8]}.safetensors"


def _infer(
    world: GenieWorldModel, dataset: ClipDataset, infer: Callable[[Tensor], np.ndarray], blank: np.ndarray
) -> np.ndarray:
    """Infer a value or vector of every transition from videos (B, T, C, H, W) -> (B, T - 1, ...); ``blank`` else."""
    return np.concatenate(
        [_infer_source(world, frames, starts, infer, blank) for frames, starts in dataset.read_sources()]
    )


def _infer_source(
    world: GenieWorldModel,
    frames: np.ndarray,
    episode_starts: np.ndarray,
    infer: Callable[[Tensor], np.ndarray],
    blank: np.ndarray,
) -> np.ndarray:
    """Do what ``_infer`` does for one source with frames (F, H, W, 3) uint8."""
    labels = np.repeat(blank[None], len(frames), axis=0)
    stretches = list(cut_stretches(episode_starts, world.latent_action_model.frames_seen))
    for first in tqdm(range(0, len(stretches), _ROWS), unit_scale=_ROWS * _STRETCH, unit=" frames", leave=False):
        rows = stretches[first : first + _ROWS]
        longest = max(row.stop - row.first + 1 for row in rows)
        numbers = [np.minimum(row.first + np.arange(longest), row.stop) for row in rows]  # padded with the last frame
        videos = to_float(torch.from_numpy(frames[np.stack(numbers)]).to(world.device))
        found = infer(videos)  # (rows, longest - 1, ...)
        for row, latents in zip(rows, found, strict=True):
            labels[row.start : row.stop] = latents[row.start - row.first : row.stop - row.first]
    return labels


def cut_stretches(episode_starts: np.ndarray, frames_seen: int) -> Iterator[Stretch]:
    """Divide the transitions of all episodes into stretches; ``episode_starts`` (F,) bool marks the first frames.

    Stretches include the past frames that labels depend on: ``frames_seen`` frames up to a transition's first one.
    """
    bounds = [*np.flatnonzero(episode_starts), len(episode_starts)]
    for begin, end in itertools.pairwise(bounds):
        for start in range(begin, end - 1, _STRETCH):
            yield Stretch(max(begin, start - frames_seen + 1), start, min(start + _STRETCH, end - 1))


def _read_labels(path: Path, about: dict[str, str]) -> np.ndarray:
    try:
        with safe_open(path, framework="np") as file:
            if file.metadata() != about:
                raise ValueError(f"labels {str(path)!r} must belong to {about}, got {file.metadata()}")
            return file.get_tensor("labels")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"labels {str(path)!r} are damaged: {error}") from error
