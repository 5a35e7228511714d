"""The config of worlds that are trained on a recording's real actions, to compare; imports no torch."""

from dataclasses import dataclass
from typing import Literal

from genie_gym.checks import check_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class RealActionConfig:
    """No latent action model: the dynamics learns from a recording's real actions, which a Genie does without."""

    backbone: Literal["real"] = "real"
    """name of this kind in JSON"""
    actions: int
    """number of real actions; action 0 of the world is the recording's first one"""

    def __post_init__(self) -> None:
        check_fields(self, positive="actions")
