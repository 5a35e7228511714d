"""Loading worlds for inference, once per process."""

import functools
import os
import tempfile
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch

from genie_gym.models.hub import upload_checkpoint
from genie_gym.models.loading import (
    digest_checkpoint,
    find_checkpoint,
    portable_name,
    read_world,
    require_device,
    require_precision,
    save_world,
)
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving.preparation import prepare


class WorldSource(NamedTuple):
    """The checkpoint that a world was loaded from: all that another process needs to load the same world."""

    checkpoint: str
    """name of a shipped checkpoint, or the whole path of a folder"""
    digest: str
    """digest of its config and weights (``digest_checkpoint``)"""
    device: str
    """device that it was loaded on"""
    precision: str
    """precision that it plays in"""

    def load(self) -> GenieWorldModel:
        """Load the world again, from the process-wide cache if it was loaded before.

        Raises:
            ValueError: If the checkpoint is gone or its digest is another one now.
        """
        try:
            world = load_world(self.checkpoint, self.device, self.precision)
        except ValueError as error:
            raise ValueError(
                f"checkpoint {self.checkpoint!r} of digest {self.digest} cannot be loaded: {error}"
            ) from error
        found = find_source(world)
        assert found is not None
        if found.digest != self.digest:
            raise ValueError(f"checkpoint {self.checkpoint!r} must have the digest {self.digest}, got {found.digest}")
        return world


_origins: WeakKeyDictionary[GenieWorldModel, tuple[Path, str, int]] = WeakKeyDictionary()
"""Loaded world -> its folder, device and the folder's stamp. A copy, which may be changed, is not among the keys."""


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
    return _load_once(folder.resolve(), device_name, precision, _read_stamp(folder))


def find_source(world: GenieWorldModel) -> WorldSource | None:
    """Return the checkpoint that ``load_world`` read a world from; None for any other world, such as a copy.

    Raises:
        ValueError: If the checkpoint is gone or has been rewritten since, so that its digest cannot be known.
    """
    if world not in _origins:
        return None
    folder, device, stamp = _origins[world]
    precision = str(world.dynamics.precision).removeprefix("torch.")
    return WorldSource(portable_name(folder), _digest_once(folder, stamp), device, precision)


def push_world(
    checkpoint: str | os.PathLike[str] | GenieWorldModel, repository: str, private: bool, token: str | None
) -> str:
    """Upload a world or a checkpoint to the hub; arguments and errors as of ``genie_gym.push_to_hub``.

    Of a world that ``load_world`` read, the checkpoint is uploaded, not the weights prepared for inference.
    """
    if isinstance(checkpoint, GenieWorldModel):
        source = find_source(checkpoint)
        if source is None:
            with tempfile.TemporaryDirectory() as folder:
                return upload_checkpoint(save_world(checkpoint, folder), repository, private, token)
        checkpoint = source.checkpoint
    return upload_checkpoint(find_checkpoint(checkpoint), repository, private, token)


def _read_stamp(folder: Path) -> int:
    """Return the time of change of a checkpoint, which differs once it is rewritten."""
    return (folder / "config.json").stat().st_mtime_ns


@functools.lru_cache(maxsize=4)
def _load_once(folder: Path, device: str, precision: str | None, stamp: int) -> GenieWorldModel:
    """Load a checkpoint; ``stamp``, its time of change, makes a rewritten checkpoint another cache entry."""
    world = prepare(read_world(folder).to(device), precision)
    _origins[world] = folder, device, stamp
    return world


@functools.cache
def _digest_once(folder: Path, stamp: int) -> str:
    """Return the digest of a checkpoint as it was at the time ``stamp``."""
    if _read_stamp(find_checkpoint(folder)) != stamp:
        raise ValueError(f"checkpoint {str(folder)!r} must be as it was when it was loaded, but it has been rewritten")
    return digest_checkpoint(folder)
