"""What ``genie-gym bench`` measures; imports no torch, so that the command line starts at once."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What to measure, and for how long."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    device: str = "cpu"
    """Where: cpu or cuda."""
    seconds: float = 3.0
    """Wanted for each measurement; whatever takes longer than that is still timed three times."""
    num_envs: tuple[int, ...] = (1, 4, 16, 64)
    """Environments of ``gym.make_vec``, beside one of ``gym.make``."""
    rows: tuple[int, ...] = (1, 16)
    """Rows of the world by itself: with and without its cache, and by MaskGIT steps."""
    maskgit_steps: tuple[int, ...] = (1, 2, 4, 8, 25)
    """Passes a frame; all else is measured at the checkpoint's."""
    widths: tuple[int, ...] = (256, 512)
    """Features a token of the models trained."""
    layers: int = 4
    """Their blocks."""
    clips: int = 4
    """Clips of 16 frames in a batch of training."""
    matrix: int = 4096
    """Rows and columns of the matrices multiplied."""

    def __post_init__(self) -> None:
        for field in ("num_envs", "rows", "maskgit_steps", "widths"):
            values = getattr(self, field)
            if not values or any(value < 1 for value in values):
                raise ValueError(f"{field} must be one or more positive integers, got {values!r}")
        for field in ("layers", "clips", "matrix"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be a positive integer, got {getattr(self, field)!r}")
        if any(width % 2 for width in self.widths):
            raise ValueError(f"widths must be even, got {self.widths!r}")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be a positive number, got {self.seconds!r}")
