"""The configs of a recording of games and of a conversion of videos; imports no torch."""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from genie_gym.checks import check_fields, require
from genie_gym.configs import Mode
from genie_gym.data.fitting import Fit, require_fit

OnBroken = Literal["stop", "skip"]
"""What to do about videos that cannot be read: stop and name all of them, or leave them out."""


FrameSource = Literal["observations", "render"]
"""Sources of an environment's frames: its observations, or what it renders in the mode ``rgb_array``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConfig:
    """A recording of Procgen games, or of any Gymnasium environment with frames."""

    game: str = "coinrun"
    """name of one of Procgen's 16 games"""
    mode: Mode = "hard"
    """difficulty of Procgen's levels (its distribution mode)"""
    env: str | None = None
    """id of a Gymnasium environment in place of Procgen: ALE/Breakout-v5, or MODULE:ID of one's own"""
    env_arguments: tuple[str, ...] = ()
    """arguments of the environment, NAME=VALUE each, VALUE in JSON or text: difficulty=1"""
    frames_from: FrameSource | None = None
    """source of an environment's frames; by default observations if they are RGB frames, otherwise render"""
    action_repeat: int = 1
    """number of steps of an environment that an action lasts, of which the last one's frame is recorded"""
    size: str = "64x64"
    """height and width in pixels of the recorded frames of an environment, such as 90x160"""
    fit: Fit = "crop"
    """method that changes the aspect ratio of an environment's frames"""
    random_start: int = 0
    """largest number of random actions, drawn by the level's seed, that precede the first frame of an episode"""
    episode_steps: int = 0
    """number of actions after which an environment's episode is cut off; 0 for the environment's own limit"""
    frames: int = 100_000
    """total number of frames"""
    num_envs: int = 64
    """number of games played in parallel"""
    start_level: int = 0
    """seed of the first level; an environment is reset with it"""
    num_levels: int = 10_000
    """number of level seeds; 0 for no limit"""
    frames_per_shard: int = 65_536
    """number of frames per file"""
    seed: int = 0
    """seed of the level order and of the players"""

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive="action_repeat frames num_envs frames_per_shard",
            not_negative="start_level num_levels random_start episode_steps",
        )
        check_size("RecordConfig.size", self.size)
        require_fit(self.fit)
        # An environment has no game and mode of Procgen's, and Procgen's frames are recorded as they are.
        names = _PROCGEN_FIELDS if self.env is not None else _ENV_FIELDS
        kind = "--env" if self.env is not None else "Procgen's games"
        for name in names:
            default = type(self).__dataclass_fields__[name].default
            require(
                getattr(self, name) == default, f"RecordConfig.{name}", getattr(self, name), f"left out with {kind}"
            )

    def identify(self) -> dict[str, Any]:
        """Return what decides the frames, as plain JSON values: a recording may grow, and keeps it."""
        unused = _PROCGEN_FIELDS if self.env is not None else ("env", *_ENV_FIELDS)
        return {name: value for name, value in asdict(self).items() if name not in {"frames", *unused}}


_PROCGEN_FIELDS = ("game", "mode")
_ENV_FIELDS = ("env_arguments", "frames_from", "action_repeat", "size", "fit", "random_start", "episode_steps")


def check_size(field: str, size: str) -> None:
    """Raise a ValueError unless the size is HEIGHTxWIDTH."""
    require(re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size) is not None, field, size, "HEIGHTxWIDTH, such as 90x160")


def read_size(size: str) -> tuple[int, int]:
    """Return the height and width that HEIGHTxWIDTH names."""
    height, width = map(int, size.split("x"))
    return height, width


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSettings:
    """What decides the frames that a video is converted to."""

    fps: float | None
    """frames per second; None for each frame of the file, whatever its time"""
    height: int
    """height in pixels"""
    width: int
    """width in pixels"""
    fit: Fit
    """method that changes the aspect ratio"""

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """A conversion of videos into clips."""

    fps: float | None = 10
    """frames per second, by the time at which frames are shown; None for each frame of a file once"""
    size: str = "64x64"
    """height and width of the frames in pixels, such as 90x160"""
    fit: Fit = "crop"
    """method that changes the aspect ratio of videos"""
    on_broken: OnBroken = "stop"
    """whether videos that cannot be read stop the conversion, all of them named, or are left out"""
    clip_length: int = 16
    """number of frames of the clips to train on; shorter videos are reported"""

    def __post_init__(self) -> None:
        check_fields(self, positive="clip_length")
        require(self.fps is None or 0 < self.fps <= 1000, "ConvertConfig.fps", self.fps, "in (0, 1000]")
        is_size = re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size)
        require(is_size is not None, "ConvertConfig.size", self.size, "HEIGHTxWIDTH in pixels, such as 90x160")

    def settings(self) -> ClipSettings:
        """Return what decides the frames."""
        height, width = map(int, self.size.split("x"))
        return ClipSettings(fps=self.fps, height=height, width=width, fit=self.fit)
