"""All phases of a preset, from clips to a saved world, resumable at any moment."""

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from genie_gym.configs import Preset, TrainConfig
from genie_gym.data.clips import Batch, ClipDataset, batches
from genie_gym.data.device_clips import DeviceClips
from genie_gym.data.frames import to_float
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training.actions import train_actions
from genie_gym.training.loop import Batches
from genie_gym.training.token_cache import TokenCache, is_worthwhile
from genie_gym.training.tokenizer import train_tokenizer
from genie_gym.training.world import train_world


def train_preset(
    preset: Preset,
    dataset: ClipDataset,
    out: Path,
    start_frames: np.ndarray | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Path | None:
    """Train a world and save it as ``out/checkpoint``; called again, go on where the last call stopped.

    Where the last phase draws as many clips as there are, a ``TokenCache`` spares the tokenizer those that come
    again. With fewer draws hardly one does: then there is none; nor on a GPU, which encodes faster than files are read.

    Args:
        preset: The world and its phases.
        dataset: Clips of the world's size, of any length: each phase cuts its own.
        out: Folder of the run: ``tokenizer``, ``actions`` where there is such a phase, and ``world`` hold the
            phases' states and TensorBoard logs.
        start_frames: (M, H, W, 3) uint8 to ship with the world.
        minutes: Stop after these, in whatever phase.
        device: Where to train.
        progress: Show bars.

    Returns:
        The checkpoint's folder, or ``None`` if time ran out before the last step.
    """
    started = time.monotonic()
    torch.manual_seed(preset.tokenizer_training.seed)
    world = GenieWorldModel(preset.world, start_frames).to(device)
    phases = [(preset.tokenizer_training, functools.partial(train_tokenizer, world.tokenizer), "tokenizer")]
    if preset.action_training is not None:
        phases.append((preset.action_training, functools.partial(train_actions, world.latent_action_model), "actions"))
    for config, phase, name in phases:
        left = _minutes_left(started, minutes)
        batches_of = clips(dataset.cut(config.clip_length), config, device)
        if phase(batches_of, config, out / name, left, progress) < config.train_steps:
            return None
    config, left = preset.world_training, _minutes_left(started, minutes)
    if left is not None and left <= 0:
        return None
    dataset = dataset.cut(config.clip_length)
    has_cache = torch.device(device).type == "cpu" and is_worthwhile(dataset, config)
    cache = TokenCache(out / "world", world.tokenizer, dataset, config) if has_cache else None
    known = preset.action_training is not None
    done = train_world(world, clips(dataset, config, device), config, out / "world", left, progress, cache, known)
    if done < config.train_steps:
        return None
    return save_world(world.eval(), out / "checkpoint")


def _minutes_left(started: float, minutes: float | None) -> float | None:
    return None if minutes is None else minutes - (time.monotonic() - started) / 60


def clips(dataset: ClipDataset, config: TrainConfig, device: str = "cpu") -> Batches:
    """Batches of a phase as the loop wants them, float videos on the device.

    Read ahead by one thread; for a GPU all frames are put into its memory, once, when the first batch is asked for.
    """
    hold = functools.cache(lambda: DeviceClips(dataset, device))

    def draw(first: int, number: int) -> Iterator[Batch]:
        if torch.device(device).type == "cuda":
            drawn = hold().batches(config.batch_size, config.seed, first, number)
        else:
            drawn = batches(dataset, config.batch_size, config.seed, first, number, workers=1)
        for batch in drawn:
            yield batch._replace(videos=to_float(batch.videos.to(device)))

    return draw


def draw_start_frames(dataset: ClipDataset, count: int, seed: int) -> np.ndarray:
    """(count, H, W, 3) uint8: first frames of clips, one drawn from each of ``count`` equal stretches of the data.

    Raises:
        ValueError: If the dataset has fewer clips than frames are wanted.
    """
    if not 1 <= count <= len(dataset):
        raise ValueError(f"count must be in 1..{len(dataset)}, the number of clips, got {count}")
    edges = np.linspace(0, len(dataset), count + 1).astype(int)
    chosen = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return np.stack([dataset[int(index)][0] for index in chosen])
