"""Latent actions of whole recordings, told by a frozen latent action model and kept on disk."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from genie_gym.data.clips import ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.weights import digest_weights

NO_LABEL = -1
"""Of an episode's last frame, from which no transition leads on."""
STRETCH = 64
"""Transitions that are labelled in one row."""
ROWS = 16


class Stretch(NamedTuple):
    """Frames of one episode that are labelled together."""

    first: int
    """Number of the first frame that is read: far enough back for the labels to know what they would know anyway."""
    start: int
    """Frame of the first transition that is kept."""
    stop: int
    """Frame after the last of them."""


def digest_labels(world: GenieWorldModel) -> str:
    """What tells one labelling model from another: a digest of the weights that labels hang on."""
    model = world.latent_action_model
    return digest_weights(model) + (digest_weights(world.tokenizer) if model.reads_tokens else "")


def label_dataset(world: GenieWorldModel, dataset: ClipDataset, cache: Path | None = None) -> np.ndarray:
    """The latent action of every transition of a dataset, with all of its episode's past in view.

    Args:
        world: Whose latent action model labels; frozen.
        dataset: Of any clip length.
        cache: Folder of labels that are kept; those of the same frames and model are read and not made again.

    Returns:
        (F,) int64, F frames one source after the other: entry t takes frame t to t + 1; ``NO_LABEL`` where an
        episode ends.

    Raises:
        ValueError: If a file of the cache is damaged.
    """
    about = {"labels_of": digest_labels(world), "data": dataset.fingerprint}
    path = None if cache is None else cache / f"labels-{about['labels_of'][:8]}-{about['data'][:8]}.safetensors"
    if path is not None and path.exists():
        return _read(path, about)
    sources = [_label_source(world, frames, starts) for frames, starts in dataset.read_sources()]
    labels = np.concatenate(sources)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp")
        save_file({"labels": labels}, beside, metadata=about)
        beside.rename(path)
    return labels


def _label_source(world: GenieWorldModel, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
    labels = np.full(len(frames), NO_LABEL, dtype=np.int64)
    stretches = list(cut_stretches(episode_starts, world.latent_action_model.frames_seen))
    for first in tqdm(range(0, len(stretches), ROWS), unit_scale=ROWS * STRETCH, unit=" frames", leave=False):
        rows = stretches[first : first + ROWS]
        longest = max(row.stop - row.first + 1 for row in rows)
        numbers = [np.minimum(row.first + np.arange(longest), row.stop) for row in rows]  # its end stands still
        videos = to_float(torch.from_numpy(frames[np.stack(numbers)]).to(world.device))
        found = world.label(videos).cpu().numpy()
        for row, told in zip(rows, found, strict=True):
            labels[row.start : row.stop] = told[row.start - row.first : row.stop - row.first]
    return labels


def cut_stretches(episode_starts: np.ndarray, frames_seen: int) -> Iterator[Stretch]:
    """Every transition of every episode once, in stretches that reach back over what a label hangs on.

    Args:
        episode_starts: (F,) bool.
        frames_seen: Frames up to t that the label of t hangs on.
    """
    bounds = [*np.flatnonzero(episode_starts), len(episode_starts)]
    for begin, end in itertools.pairwise(bounds):
        for start in range(begin, end - 1, STRETCH):
            yield Stretch(max(begin, start - frames_seen + 1), start, min(start + STRETCH, end - 1))


def _read(path: Path, about: dict[str, str]) -> np.ndarray:
    try:
        with safe_open(path, framework="np") as file:
            if file.metadata() != about:
                raise ValueError(f"labels {str(path)!r} are of {file.metadata()}, wanted are those of {about}")
            return file.get_tensor("labels")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"labels {str(path)!r} are damaged: {error}") from error
