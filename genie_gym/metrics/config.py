"""Options of ``genie-gym evaluate``; imports no torch, so that the command line starts quickly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from genie_gym.checks import check_fields, require


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """The world to score, the data to score it on, and the sizes of all measurements."""

    checkpoint: Annotated[str, tyro.conf.Positional] = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    data: Path | None = None
    """folder of recordings or videos; half of its clips fit the baselines; by default CoinRun is recorded"""
    resize: bool = False
    """crop and scale ``data`` to the size of the world's frames, as in training"""
    player: str = "expert"
    """trained player recorded in addition to the sticky-random one; empty for none"""
    modes: tuple[Literal["easy", "hard"], ...] = ("easy", "hard")
    """Procgen distribution modes to record"""
    levels: Literal["test", "validation"] = "test"
    """set of levels to score; use ``validation`` to choose between models"""
    clips: int = 256
    """number of scored clips of 16 frames, shared equally by modes and players"""
    inverse_steps: int = 800
    """most training steps of the supervised inverse model (the ceiling), which ends when it no longer improves"""
    starts: int = 64
    """number of starts a mode from which each latent action and each key is held"""
    maskgit_steps: tuple[int, ...] = (1, 2, 4, 8, 25)
    """MaskGIT steps per frame to compare"""
    passes_clips: int = 20
    """number of clips used to compare MaskGIT step counts"""
    sessions: int = 0
    """number of games of each mode, policy by policy, of long play; the release takes 24"""
    session_steps: int = 200
    """number of steps of a game of long play"""
    policy: str = ""
    """FILE.py:FACTORY of one more policy of long play, written like those of the page"""
    i3d: Path | None = None
    """file that genie-gym convert-i3d wrote, to report FVD over I3D as well"""
    device: str = "cpu"
    """torch device to play on"""
    seed: int = 0
    """seed of recordings, clips, training, sampling and intervals"""

    def __post_init__(self) -> None:
        check_fields(self)
        require(0 < len(self.modes) == len(set(self.modes)), "modes", self.modes, "one or more different ones")
        for field, least in {
            "clips": 2,
            "starts": 2,
            "passes_clips": 2,
            "inverse_steps": 1,
            "sessions": 0,
            "session_steps": 4,
            "seed": 0,
        }.items():
            require(getattr(self, field) >= least, field, getattr(self, field), f"{least} or more")
        require(not self.sessions or self.data is None, "sessions", self.sessions, "0 with data: they need the game")
        steps = self.maskgit_steps
        require(min(steps, default=0) > 0, "maskgit_steps", steps, "one or more positive integers")
