"""The config of a recording of games; imports no torch."""

from dataclasses import dataclass

from genie_gym.checks import check_fields
from genie_gym.configs import Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConfig:
    """A recording of Procgen games."""

    game: str = "coinrun"
    """name of one of Procgen's 16 games"""
    mode: Mode = "hard"
    """difficulty of the levels (Procgen's distribution mode)"""
    frames: int = 100_000
    """total number of frames"""
    num_envs: int = 64
    """number of games played in parallel"""
    start_level: int = 0
    """seed of the first level"""
    num_levels: int = 10_000
    """number of level seeds; 0 for no limit"""
    frames_per_shard: int = 65_536
    """number of frames per file"""
    seed: int = 0
    """seed of the level order and of the players"""

    def __post_init__(self) -> None:
        check_fields(self, positive="frames num_envs frames_per_shard", not_negative="start_level num_levels")
