"""Options of ``genie-gym bench``; imports no torch, so that the command line starts quickly."""

import math
from dataclasses import dataclass

from genie_gym.checks import check_fields, require


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """The measurements to make, and the time for each."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    device: str = "cpu"
    """torch device, cpu or cuda"""
    seconds: float = 3.0
    """time for each measurement in seconds; everything is timed at least three times"""
    num_envs: tuple[int, ...] = (1, 4, 16, 64)
    """numbers of environments of ``gym.make_vec``; ``gym.make`` is always measured too"""
    device_envs: tuple[int, ...] = (1, 64, 256, 1024)
    """numbers of environments of ``GenieTorchEnv``, measured on a GPU alone"""
    rows: tuple[int, ...] = (1, 16)
    """batch sizes of the world without an environment: with and without KV cache, by engine and by MaskGIT steps"""
    profiled: tuple[int, ...] = (1, 16, 64)
    """numbers of environments for which the time of a frame is measured by part"""
    compiler: bool = False
    """time PyTorch with torch.compile too, which compiles for minutes"""
    maskgit_steps: tuple[int, ...] = (1, 2, 4, 8, 25)
    """MaskGIT steps per frame to compare; all else uses the checkpoint's"""
    widths: tuple[int, ...] = (256, 512)
    """transformer widths of the models to train"""
    layers: int = 4
    """number of transformer blocks of the models to train"""
    clips: int = 4
    """number of 16-frame clips in a training batch"""
    matrix: int = 4096
    """rows and columns of the square matrices to multiply"""

    def __post_init__(self) -> None:
        check_fields(self)
        for field in ("num_envs", "device_envs", "rows", "profiled", "maskgit_steps", "widths"):
            values = getattr(self, field)
            require(min(values, default=0) > 0, field, values, "one or more positive integers")
        for field in ("layers", "clips", "matrix"):
            require(getattr(self, field) > 0, field, getattr(self, field), "a positive integer")
        require(not any(width % 2 for width in self.widths), "widths", self.widths, "even")
        require(0 < self.seconds < math.inf, "seconds", self.seconds, "a positive number")
