"""What the three models share."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genie_gym.serving import kernels
from genie_gym.system import processor_flags


class LossOutput(NamedTuple):
    """``loss`` () to minimise, and detached scalar ``metrics``."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Model(nn.Module):
    """A module with a precision: weights stay as stored, features run in ``self.precision``."""

    precision: torch.dtype = torch.float32

    def set_precision(self, precision: str) -> None:
        """Compute in ``float32``, ``bfloat16`` or ``float16`` from now on."""
        self.precision = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def native_precision(device: torch.device) -> str:
    """What the device plays worlds fastest in.

    ``bfloat16`` on a GPU and on a CPU with instructions for it. Intel's CPUs that multiply float16 but have no tiles
    (AMX), or are not allowed to use them, take twice as long over bfloat16 as over float32: there it is ``float16``,
    which only the compiled kernels multiply, or ``float32`` without these.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    flags = processor_flags()
    if "avx512_fp16" in flags and "amx_bf16" not in flags:
        return "float16" if kernels.can_multiply(torch.float16) else "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & flags else "float32"


def require_videos(videos: Tensor, channels: int = 3, height: int | None = None, width: int | None = None) -> None:
    """Raise a ValueError unless ``videos`` is (B, T, C, H, W) floating point of the size asked for."""
    if videos.ndim != 5 or not videos.is_floating_point():
        raise ValueError(f"videos must be (B, T, C, H, W) float, got {tuple(videos.shape)} {videos.dtype}")
    wanted = (channels, height or videos.shape[3], width or videos.shape[4])
    if tuple(videos.shape[2:]) != wanted or 0 in videos.shape:
        raise ValueError(f"videos must be (B, T, {', '.join(map(str, wanted))}), got {tuple(videos.shape)}")


def require_pixels(name: str, videos: Tensor) -> None:
    """Raise a ValueError unless all values are in [0, 1]; NaN is not."""
    low, high = videos.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must be in [0, 1], got {float(low)}..{float(high)}")


def require_ids(name: str, ids: Tensor, below: int) -> None:
    """Raise a ValueError unless ``ids`` is int64 in [0, below)."""
    if ids.dtype != torch.int64:
        raise ValueError(f"{name} must be int64, got {ids.dtype}")
    if ids.numel() and not (0 <= int(ids.min()) and int(ids.max()) < below):
        raise ValueError(f"{name} must be in [0, {below}), got {int(ids.min())}..{int(ids.max())}")
