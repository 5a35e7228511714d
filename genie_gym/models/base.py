"""Helpers that the three models share: their loss output, their precision, and checks of their input."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from genie_gym.system import has_lost_threads


class LossOutput(NamedTuple):
    """A model's ``loss`` () to minimise, and detached scalar ``metrics`` by name."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Model(nn.Module):
    """A module with a precision: weights stay as stored, features are computed in ``self.precision``."""

    precision: torch.dtype = torch.float32

    def set_precision(self, precision: str) -> None:
        """Compute in ``float32`` or ``bfloat16`` from now on."""
        self.precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def require_threads() -> None:
    """Raise a RuntimeError if PyTorch would wait for ever for threads that this process lost when it was forked."""
    if has_lost_threads() and torch.get_num_threads() > 1:
        raise RuntimeError(
            f"torch.get_num_threads() must be 1 in a process that was forked after PyTorch was loaded, got "
            f"{torch.get_num_threads()}: call torch.set_num_threads(1), or start the process by spawn"
        )


def require_videos(videos: Tensor, channels: int = 3, height: int | None = None, width: int | None = None) -> None:
    """Raise a ValueError unless ``videos`` is (B, T, C, H, W) floating point of the given size."""
    if videos.ndim != 5 or not videos.is_floating_point():
        raise ValueError(f"videos must be (B, T, C, H, W) float, got {tuple(videos.shape)} {videos.dtype}")
    wanted = (channels, height or videos.shape[3], width or videos.shape[4])
    if tuple(videos.shape[2:]) != wanted or 0 in videos.shape:
        raise ValueError(f"videos must be (B, T, {', '.join(map(str, wanted))}), got {tuple(videos.shape)}")


def require_unit_videos(videos: Tensor) -> None:
    """Raise a ValueError that says how to convert ``videos`` unless they are (B, T, C, H, W) float in [0, 1].

    Values on a GPU are not checked, since that would wait for the GPU.
    """
    what = "an array" if isinstance(videos, np.ndarray) else type(videos).__name__
    hint = "genie_gym.data.frames.to_float converts (B, T, H, W, 3) uint8, and genie_gym.label takes frames or a file"
    if not isinstance(videos, Tensor):
        raise ValueError(f"videos must be a float tensor (B, T, C, H, W) in [0, 1], got {what}: {hint}")
    if videos.ndim != 5 or not videos.is_floating_point():
        given = f"{tuple(videos.shape)} {videos.dtype}"
        raise ValueError(f"videos must be a float tensor (B, T, C, H, W) in [0, 1], got {given}: {hint}")
    if videos.device.type == "cpu" and videos.numel():
        low, high = videos.aminmax()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"videos must be in [0, 1], got {float(low):g}..{float(high):g}: {hint}")


def require_pixels(name: str, videos: Tensor) -> None:
    """Raise a ValueError unless all values are in [0, 1]; NaN is refused too."""
    low, high = videos.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must be in [0, 1], got {float(low)}..{float(high)}")


def require_ids(name: str, ids: Tensor, below: int) -> None:
    """Raise a ValueError unless ``ids`` is int64 in [0, below)."""
    if ids.dtype != torch.int64:
        raise ValueError(f"{name} must be int64, got {ids.dtype}")
    if ids.numel() and not (0 <= int(ids.min()) and int(ids.max()) < below):
        raise ValueError(f"{name} must be in [0, {below}), got {int(ids.min())}..{int(ids.max())}")
