"""Loading worlds for inference, once per process."""

import functools
import os
from pathlib import Path

import torch

from genie_gym.models.loading import find_checkpoint, read_world, require_device, require_precision
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving.preparation import prepare


def load_world(
    name_or_path: str | os.PathLike[str] = "coinrun", device: str | torch.device = "cpu", precision: str | None = None
) -> GenieWorldModel:
    """Load a trained world, prepared for inference; once per process for each checkpoint, device and precision.

    Args:
        name_or_path: Name of a shipped checkpoint, or a folder written by ``save_world``.
        device: Device to load it on.
        precision: ``float32``, ``bfloat16`` or ``auto``; ``None`` for the config's.

    Returns:
        The world. It is shared by all who load it: do not change it.

    Raises:
        ValueError: If there is no such checkpoint, device or precision, or the checkpoint is damaged or of another
            format.
    """
    device_name = require_device(device)
    require_precision(precision)
    folder = find_checkpoint(name_or_path)
    stamp = (folder / "config.json").stat().st_mtime_ns
    return _load_once(folder.resolve(), device_name, precision, stamp)


@functools.lru_cache(maxsize=4)
def _load_once(folder: Path, device: str, precision: str | None, stamp: int) -> GenieWorldModel:
    """Load a checkpoint; ``stamp``, its time of change, makes a rewritten checkpoint another cache entry."""
    return prepare(read_world(folder).to(device), precision)
