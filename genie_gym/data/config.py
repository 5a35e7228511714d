"""The configs of a recording of games and of a conversion of videos; imports no torch."""

import json
import numbers
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from genie_gym.checks import check_fields, is_integer, require
from genie_gym.configs import Mode
from genie_gym.data.fitting import Fit, require_fit

OnBroken = Literal["stop", "skip"]
"""What to do about videos that cannot be read: stop and name all of them, or leave them out."""
MAX_FPS = 1000
"""Largest number of frames per second of videos."""
_MAX_PIXELS = 1 << 21
"""Largest number of pixels of a converted frame, enough for 1080 x 1920: a process holds 128 frames twice, 1.6 GB."""


def require_rate(field: str, fps: Any) -> None:
    """Raise ``ValueError`` unless ``fps`` is None or a number in (0, 1000]."""
    is_number = isinstance(fps, numbers.Real) and not isinstance(fps, bool)
    require(fps is None or (is_number and 0 < fps <= MAX_FPS), field, fps, f"a number in (0, {MAX_FPS}]")


def read_size(field: str, size: str) -> tuple[int, int]:
    """Return the height and width of HEIGHTxWIDTH; ``ValueError`` naming ``field`` if it is none, or very large."""
    is_size = isinstance(size, str) and re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size) is not None
    require(is_size, field, size, "HEIGHTxWIDTH, such as 90x160")
    height, width = map(int, size.split("x"))
    require(height * width <= _MAX_PIXELS, field, size, f"of up to {_MAX_PIXELS} pixels")
    return height, width


_MOST_GAMES = 65_536
"""Largest number of games played in parallel."""
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
    """number of steps of the game that an action lasts, of which the last one's frame is recorded"""
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
            not_negative="start_level num_levels seed random_start episode_steps",
        )
        read_size("RecordConfig.size", self.size)
        require_fit(self.fit)
        require(self.num_envs <= _MOST_GAMES, "RecordConfig.num_envs", self.num_envs, f"at most {_MOST_GAMES}")
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
        if self.env is None and self.action_repeat == 1:
            unused = *unused, "action_repeat"  # recordings from before Procgen's games had it stay the same
        return {name: value for name, value in asdict(self).items() if name not in {"frames", *unused}}


_PROCGEN_FIELDS = ("game", "mode")
_ENV_FIELDS = ("env_arguments", "frames_from", "size", "fit", "random_start", "episode_steps")


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

    def __post_init__(self) -> None:
        require_rate("fps", self.fps)
        for name in ("height", "width"):
            value = getattr(self, name)
            require(is_integer(value, 1), name, value, "a positive integer")
        require_fit(self.fit)

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        """Return the settings as options of ``genie-gym convert``."""
        return f"--fps {self.fps} --size {self.height}x{self.width} --fit {self.fit}"


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
    camera: str | None = None
    """camera of LeRobot datasets; by default the only one"""

    def __post_init__(self) -> None:
        check_fields(self, positive="clip_length")
        require_rate("ConvertConfig.fps", self.fps)
        read_size("ConvertConfig.size", self.size)

    def settings(self) -> ClipSettings:
        """Return what decides the frames."""
        height, width = read_size("ConvertConfig.size", self.size)
        fps = None if self.fps is None else float(self.fps)  # 10 and 10.0 are the same settings
        return ClipSettings(fps=fps, height=height, width=width, fit=self.fit)
