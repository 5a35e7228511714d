"""Games of any Gymnasium environment with RGB frames, as arrays; the counterpart of ``data.procgen``."""

import importlib
import json
import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from genie_gym.checks import require
from genie_gym.data.config import FrameSource, RecordConfig, read_size
from genie_gym.data.fitting import describe_resize
from genie_gym.data.frames import resize
from genie_gym.data.procgen import Observation, count_levels
from genie_gym.extras import need_extra
from genie_gym.plugins import describe_failure

_ATARI = "ALE/"
_RETURNED = {"reset": 2, "step": 5, "render": None}
"""Method of an environment -> number of values that it returns; None for any."""
_INTEGERS = np.iinfo(np.int32)


class EnvGames:
    """B games of a Gymnasium environment stepped together; a game that ends begins its next level immediately.

    Each episode is a level: the environment is reset with the level's seed, and then takes up to ``random_start``
    random actions, drawn by that seed too, unless they end the episode.

    Attributes:
        env: Id of the environment.
        action_space: Action space of one game.
        source: Source of the frames.
        raw_size: Height and width of the environment's frames in pixels.

    Args:
        config: Recording config with an ``env``.
        seed: Seed of the order of levels.
        num_envs: Number of games, B.
        levels: B level seeds, one for each game, which starts it again after every episode; random levels if None.

    Raises:
        ValueError: If there is no such environment, or it has no frames or actions of a kind that can be recorded.
        MissingExtraError: If it is an Atari game and ale-py is not installed.
    """

    def __init__(
        self, config: RecordConfig, seed: int, num_envs: int, levels: Sequence[int] | np.ndarray | None = None
    ) -> None:
        self._config, self._rng, self._fixed = config, np.random.default_rng(seed), levels
        self._num_levels = count_levels(config)
        self.env = config.env
        self._height, self._width = read_size("RecordConfig.size", config.size)
        first, self.source = open_env(config)
        self._envs = [first, *(open_env(config)[0] for _ in range(num_envs - 1))]
        self.raw_size = (0, 0)
        self.action_space = require_actions(config, first.action_space)
        self._frames = np.empty((num_envs, self._height, self._width, 3), dtype=np.uint8)
        self._seen: list[Any] = [None] * num_envs
        self._rewards = np.zeros(num_envs, dtype=np.float32)
        self._starts = np.ones(num_envs, dtype=np.bool_)
        self._levels = np.zeros(num_envs, dtype=np.int64)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        for row in range(num_envs):
            self._begin(row)

    def observe(self) -> Observation:
        """Return the current observation, its frames of the config's size."""
        return Observation(self._frames, self._rewards, self._starts, self._levels)

    def views(self) -> Any:
        """Return what players see: the environments' observations, stacked to (B, ...) if they are arrays."""
        are_arrays = all(isinstance(seen, np.ndarray) for seen in self._seen)
        return np.stack(self._seen) if are_arrays else list(self._seen)

    def act(self, actions: np.ndarray) -> None:
        """Step every game ``action_repeat`` times with its action, (B, ...) as the action space has them."""
        for row, (env, action) in enumerate(zip(self._envs, actions, strict=True)):
            self._rewards[row], is_over = 0, False
            for _ in range(self._config.action_repeat):
                self._seen[row], reward, ends, is_cut, _ = self._call(env, "step", to_action(self.action_space, action))
                self._rewards[row] += check_reward(f"reward of env {self.env!r}", reward)
                is_over = ends or is_cut
                if is_over:
                    break
            self._lengths[row] += 1
            self._starts[row] = is_over or self._lengths[row] == self._config.episode_steps
            if self._starts[row]:
                self._begin(row)
            else:
                self._draw(row)

    def close(self) -> None:
        """Free the games."""
        for env in self._envs:
            env.close()

    def _begin(self, row: int) -> None:
        level = (
            self._config.start_level + self._rng.integers(self._num_levels) if self._fixed is None else self._fixed[row]
        )
        self._levels[row], self._lengths[row] = level, 0
        self._seen[row], _ = self._call(self._envs[row], "reset", seed=int(level))
        if self._config.random_start:
            self._start_at_random(row)
        self._draw(row)

    def _start_at_random(self, row: int) -> None:
        """Take a game's random actions; if they end its episode, it begins at the plain start of its level."""
        env, level = self._envs[row], int(self._levels[row])
        self.action_space.seed(level)
        for _ in range(np.random.default_rng(level).integers(self._config.random_start + 1)):
            self._seen[row], _, ends, is_cut, _ = self._call(env, "step", self.action_space.sample())
            if ends or is_cut:
                self._seen[row], _ = self._call(env, "reset", seed=level)
                break

    def _call(self, env: gym.Env[Any, Any], method: str, *arguments: Any, **named: Any) -> Any:
        """Return what a method of an environment returns, which may be any code; ``ValueError`` if it fails."""
        try:
            result = getattr(env, method)(*arguments, **named)
        except Exception as error:
            raise ValueError(f"env {self.env!r} failed in {method}: {describe_failure(error)}") from error
        wanted = _RETURNED[method]
        is_whole = wanted is None or (isinstance(result, tuple) and len(result) == wanted)
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        require(is_whole, f"result of {method} of env {self.env!r}", got, f"{wanted} values, as Gymnasium asks for")
        return result

    def _draw(self, row: int) -> None:
        """Take the frame of a game."""
        frame: Any = self._seen[row] if self.source == "observations" else self._call(self._envs[row], "render")
        is_frame = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
        got = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
        require(is_frame and frame.shape[2] == 3, f"frames of env {self._config.env!r}", got, "(H, W, 3) uint8")
        if self.raw_size == (0, 0):
            self.raw_size = frame.shape[:2]
        if frame.shape[:2] != self.raw_size:
            sizes = f"{self.raw_size[0]} x {self.raw_size[1]}, then {frame.shape[0]} x {frame.shape[1]}"
            raise ValueError(f"frames of env {self._config.env!r} must keep their size, got {sizes}")
        self._frames[row] = resize(frame, self._height, self._width, self._config.fit)


def check_reward(field: str, reward: Any) -> float:
    """Return a reward as a number; ``ValueError`` unless it is a finite one of 32 bits."""
    is_number = isinstance(reward, numbers.Real) or (isinstance(reward, np.ndarray) and reward.size == 1)
    value = float(reward) if is_number else math.nan
    require(abs(value) <= float(np.finfo(np.float32).max), field, reward, "a finite number")
    return value


def require_actions(config: RecordConfig, space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the action space of an environment; ``ValueError`` unless its actions are integers or arrays."""
    kinds = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box
    if not isinstance(space, kinds):
        wanted = "Discrete, MultiDiscrete, MultiBinary or Box"
        raise ValueError(f"actions of env {config.env!r} must be {wanted}, got {space}; wrap it to flatten them")
    least, most = _find_bounds(space)
    can_be_stored = int(np.prod(space.shape or ())) > 0 and least >= _INTEGERS.min and most <= _INTEGERS.max
    require(can_be_stored, f"actions of env {config.env!r}", space, "one number or more, integers of 32 bits")
    return space


def _find_bounds(space: spaces.Space[Any]) -> tuple[int, int]:
    """Return the least and the greatest integer of a space's actions; 0 and 0 if they are real numbers."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return int(np.min(space.start)), int(np.max(space.start + space.nvec))
    if isinstance(space, spaces.Box) and np.issubdtype(np.dtype(space.dtype), np.integer):
        return int(np.min(space.low, initial=0)), int(np.max(space.high, initial=0))
    return 0, 0


def action_layout(space: spaces.Space[Any]) -> tuple[tuple[int, ...], type[np.generic]]:
    """Return the shape and type in which an action is stored: a number, or a vector of D numbers."""
    dtype = np.float32 if np.issubdtype(np.dtype(space.dtype), np.floating) else np.int32
    return (() if isinstance(space, spaces.Discrete) else (int(np.prod(space.shape or ())),)), dtype


def check_env_actions(field: str, space: spaces.Space[Any], actions: Any, games: int) -> np.ndarray:
    """Return a player's actions as (B, ...) of the space's type; ``ValueError`` if one is not in the space."""
    array = np.asarray(actions)
    shape = (games, *(space.shape or ()))
    require(array.shape == shape, f"shape of {field}", array.shape, f"{shape} for {space}")
    is_whole = np.issubdtype(array.dtype, np.integer) or np.issubdtype(np.dtype(space.dtype), np.floating)
    require(is_whole, field, array.dtype, f"integers for {space}")
    cast = array.astype(space.dtype)
    if np.issubdtype(cast.dtype, np.integer):
        changed = array[cast != array]
        require(not changed.size, field, changed.flat[0] if changed.size else None, f"in {space}")
    array = cast
    for action in array:
        require(space.contains(to_action(space, action)), field, action, f"in {space}")
    return array


def to_action(space: spaces.Space[Any], action: np.ndarray) -> Any:
    """Return one action as an environment's ``step`` takes it."""
    return int(action) if isinstance(space, spaces.Discrete) else action


def find_action_space(config: RecordConfig) -> spaces.Space[Any]:
    """Return the action space of the config's environment; errors as for ``EnvGames``."""
    env, _ = open_env(config)
    env.close()
    return require_actions(config, env.action_space)


def describe_frames(config: RecordConfig) -> str:
    """Return how the frames of the config's environment are brought to its size, to print."""
    games = EnvGames(config, seed=config.seed, num_envs=1)
    wanted = read_size("RecordConfig.size", config.size)
    games.close()
    return f"{config.env}, by its {games.source}: {describe_resize(*games.raw_size, *wanted, config.fit)}"


def describe_actions(config: RecordConfig) -> dict[str, str | int]:
    """Return a shard's attributes about discrete actions: their number, the first one, and their names if known."""
    env, _ = open_env(config)
    env.close()
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        return {}
    names = env.get_wrapper_attr("get_action_meanings")() if env.has_wrapper_attr("get_action_meanings") else []
    return {"num_actions": int(space.n), "first_action": int(space.start), "action_names": json.dumps(list(names))}


def open_env(config: RecordConfig) -> tuple[gym.Env[Any, Any], FrameSource]:
    """Make the config's environment, and return it with the source of its frames; errors as for ``EnvGames``."""
    assert config.env is not None
    if config.env.startswith(_ATARI):
        with need_extra("atari", "Atari games need ale-py"):
            gym.register_envs(importlib.import_module("ale_py"))
    arguments = _read_arguments(config.env_arguments)
    source = config.frames_from
    if source != "render":
        env = _make(config.env, arguments)
        if source == "observations" or _is_frame_space(env.observation_space):
            if not _is_frame_space(env.observation_space):
                env.close()
                raise ValueError(_explain_frames(config.env, env))
            return env, "observations"
        modes = env.metadata.get("render_modes", [])
        env.close()
        if "rgb_array" not in modes:
            raise ValueError(_explain_frames(config.env, env))
    return _make(config.env, {**arguments, "render_mode": "rgb_array"}), "render"


def _make(name: str, arguments: dict[str, Any]) -> gym.Env[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old versions, and of wrappers that recordings do not use
            return gym.make(name, disable_env_checker=True, **arguments)
    except Exception as error:
        told = str(error) if isinstance(error, gym.error.Error | ImportError) else describe_failure(error)
        raise ValueError(f"env {name!r} cannot be made: {told}") from error


def _is_frame_space(space: spaces.Space[Any]) -> bool:
    shape = space.shape or ()
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3


def _explain_frames(name: str, env: gym.Env[Any, Any]) -> str:
    modes = env.metadata.get("render_modes", [])
    return (
        f"env {name!r} must show RGB frames, by observations (H, W, 3) uint8 or in the render mode 'rgb_array', got "
        f"observations {env.observation_space} and the render modes {modes}"
    )


def _read_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE texts as arguments; a VALUE that is no JSON is text."""
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        require(name.isidentifier() and bool(equals), "RecordConfig.env_arguments", text, "NAME=VALUE")
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value
    return arguments
