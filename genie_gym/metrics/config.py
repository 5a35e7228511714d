"""What ``genie-gym evaluate`` measures; imports no torch, so that the command line starts at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Which world, on what, and how much of it."""

    checkpoint: Annotated[str, tyro.conf.Positional] = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    data: Path | None = None
    """Recordings or videos to score on, half of whose levels serve as separate ones; CoinRun recorded on the spot
    where not given."""
    resize: bool = False
    """Crop and scale ``data`` of another size than the world's, as training does."""
    player: str = "expert"
    """Trained player beside the sticky-random one; none where empty."""
    modes: tuple[Literal["easy", "hard"], ...] = ("easy", "hard")
    """Procgen's distribution modes."""
    levels: Literal["test", "validation"] = "test"
    """Levels that are scored. What is chosen by a score is chosen on validation levels."""
    clips: int = 256
    """Clips of 16 frames in all; each mode and player gets as many."""
    inverse_steps: int = 250
    """Training batches, of 16 clips, of the supervised inverse model that is the ceiling."""
    start_frames: int = 64
    """From which every latent action is held."""
    maskgit_steps: tuple[int, ...] = (1, 2, 4, 8, 25)
    """Passes a frame that are compared."""
    passes_clips: int = 20
    """Clips on which they are."""
    i3d: Path | None = None
    """i3d_torchscript.pt, for FVD as others report it."""
    device: str = "cpu"
    """Where to play."""
    seed: int = 0
    """Of recordings, draws, training, sampling and intervals."""

    def __post_init__(self) -> None:
        if not self.modes or len(set(self.modes)) != len(self.modes):
            raise ValueError(f"modes must be one or more different ones, got {self.modes!r}")
        for field in ("clips", "start_frames", "passes_clips"):
            if getattr(self, field) < 2:
                raise ValueError(f"{field} must be 2 or more, got {getattr(self, field)!r}")
        if self.inverse_steps < 1 or self.seed < 0:
            raise ValueError(
                f"inverse_steps must be positive and seed 0 or more, got {self.inverse_steps} and {self.seed}"
            )
        if not self.maskgit_steps or any(passes < 1 for passes in self.maskgit_steps):
            raise ValueError(f"maskgit_steps must be one or more positive integers, got {self.maskgit_steps!r}")
