"""Procgen's games as arrays. This is the only module that imports procgen."""

import contextlib
import functools
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from genie_gym.checks import require
from genie_gym.data.config import RecordConfig
from genie_gym.extras import need_extra

GAMES = (
    *("bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot"),
    *("heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot"),
)
FRAME_SIZE = 64
"""Height and width in pixels of every game's frames."""
MAX_GAME_STEPS = 1000
"""Number of steps after which CoinRun and most other games end an episode."""
NUM_REAL_ACTIONS = 15
NUM_MOVES = 9
"""Number of actions that move, 0..8: {left, stay, right} x {down, none, up}. The others do nothing in CoinRun."""
ACTION_NAMES = (
    *("left down", "left", "left up", "down", "stay", "up", "right down", "right", "right up"),
    *("key D", "key A", "key W", "key S", "key Q", "key E"),
)
"""Name of each action."""
_STAY = 4
MAX_LEVEL_SEED = 2**31 - 1
_MAX_STATE_BYTES = 2**20

_DIRECTION = np.array([-1, -1, -1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
_VERTICAL = np.array([-1, 0, 1, -1, 0, 1, -1, 0, 1, 0, 0, 0, 0, 0, 0])


def direction(real_actions: np.ndarray) -> np.ndarray:
    """Map actions to -1 (left), 0 (stay) or 1 (right), int64 of the same shape; errors as in ``check_actions``."""
    return _DIRECTION[check_actions("real_actions", real_actions)]


def vertical(real_actions: np.ndarray) -> np.ndarray:
    """Map actions to -1 (down), 0 (none) or 1 (up), int64 of the same shape; errors as in ``check_actions``."""
    return _VERTICAL[check_actions("real_actions", real_actions)]


def check_actions(field: str, real_actions: np.ndarray) -> np.ndarray:
    """Convert actions to an array and check that all are integers in [0, 15).

    Raises:
        ValueError: If one is not; the message names ``field`` and what was found.
    """
    actions = np.asarray(real_actions)
    if not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(f"{field} must be integers, got {actions.dtype}")
    wrong = actions[(actions < 0) | (actions >= NUM_REAL_ACTIONS)]
    if wrong.size:
        raise ValueError(f"{field} must be in [0, {NUM_REAL_ACTIONS}), got {wrong.flat[0]}")
    return actions


class Observation(NamedTuple):
    """The observation of B games at one step."""

    frames: np.ndarray
    """(B, 64, 64, 3) uint8; the next step overwrites them."""
    rewards: np.ndarray
    """(B,) float32, received for the latest action."""
    episode_starts: np.ndarray
    """(B,) bool; True if the frame is the first of its level."""
    level_seeds: np.ndarray
    """(B,) int64."""


class Games:
    """B games of Procgen stepped together; a game that ends starts its next level immediately.

    Args:
        env: Procgen's environment of B games.
        action_repeat: Number of steps that an action lasts, of which the last one's frame is seen. A game that ends
            on the way stays for the rest of them.
    """

    def __init__(self, env: Any, action_repeat: int = 1) -> None:
        self._env, self._action_repeat = env, action_repeat
        self._passed = np.zeros(env.num, dtype=np.float32), np.zeros(env.num, dtype=bool)
        """Rewards and episode starts of the steps of the last action that were not seen."""

    def observe(self) -> Observation:
        """Return the current observation."""
        rewards, episode_starts = self.outcomes()
        _, frames, _ = self._env.observe()
        level_seeds = np.array([info["level_seed"] for info in self._env.get_info()], dtype=np.int64)
        return Observation(frames["rgb"], rewards, episode_starts, level_seeds)

    def views(self) -> np.ndarray:
        """Return what players see: the frames (B, 64, 64, 3) uint8."""
        return self.observe().frames

    def outcomes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rewards and episode starts of ``observe`` alone, which is faster."""
        rewards, _, episode_starts = self._env.observe()
        return rewards + self._passed[0], episode_starts | self._passed[1]

    def act(self, real_actions: np.ndarray) -> None:
        """Step every game with its real action, (B,) integers in [0, 15)."""
        rewards, episode_starts = self._passed
        rewards[:], episode_starts[:] = 0, False
        actions = np.array(real_actions)
        for _ in range(self._action_repeat - 1):
            self._env.act(actions)
            earned, _, has_begun = self._env.observe()
            rewards += earned
            episode_starts |= has_begun
            actions[episode_starts] = _STAY
        self._env.act(actions)

    def save(self, rows: Sequence[int] | np.ndarray | None = None) -> list[bytes]:
        """Return the state of every game, or of those with the indices ``rows``: 40 kB each, for ``restore``."""
        ffi = self._env._ffi
        buffer = ffi.new(f"char[{_MAX_STATE_BYTES}]")
        lengths = (
            (self._env.call_c_func("get_state", int(row), buffer, _MAX_STATE_BYTES))
            for row in (range(self._env.num) if rows is None else rows)
        )
        return [bytes(ffi.buffer(buffer, length)) for length in lengths]

    def restore(self, states: Sequence[bytes], rows: Sequence[int] | np.ndarray | None = None) -> None:
        """Restore states that ``save`` returned, of any games of that name; ``rows`` as in ``save``."""
        for row, state in zip(range(self._env.num) if rows is None else rows, states, strict=True):
            self._env.call_c_func("set_state", int(row), state, len(state))

    def close(self) -> None:
        """Free the games."""
        self._env.close()


def count_levels(config: RecordConfig) -> int:
    """Return the number of level seeds of a config; ``ValueError`` if they go beyond the largest one."""
    num_levels = config.num_levels or MAX_LEVEL_SEED - config.start_level
    levels = (config.start_level, config.num_levels)
    is_inside = num_levels > 0 and config.start_level + num_levels <= MAX_LEVEL_SEED
    require(is_inside, "RecordConfig start_level and num_levels", levels, f"below {MAX_LEVEL_SEED} in all")
    return num_levels


def open_games(config: RecordConfig, *, seed: int, num_envs: int, paint_velocity: bool = False) -> Games:
    """Open ``num_envs`` games on the levels of ``config``; equal arguments give equal games.

    Args:
        config: Recording config; only its game, mode, action_repeat, start_level and num_levels are used.
        seed: Seed of the order of levels, in [0, 2**31).
        num_envs: Number of games, B.
        paint_velocity: Whether the player's velocity is painted into a corner of the frame. It changes
            nothing else: games opened with and without it that receive the same actions stay in lockstep.

    Raises:
        ValueError: If the game or the level range does not exist.
        MissingExtraError: If procgen is not installed.
    """
    require(config.game in GAMES, "RecordConfig.game", config.game, f"one of {GAMES}")
    num_levels = count_levels(config)  # Procgen would ignore start_level with 0
    env = import_procgen().ProcgenGym3Env(
        num=num_envs,
        env_name=config.game,
        distribution_mode=config.mode,
        start_level=config.start_level,
        num_levels=num_levels,
        rand_seed=seed,
        paint_vel_info=paint_velocity,
        num_threads=0,  # stepping in this thread is faster than one extra thread; workers use the other cores
    )
    return Games(env, config.action_repeat)


def open_levels(config: RecordConfig, levels: Sequence[int], *, paint_velocity: bool = False) -> Games:
    """Open one game at the start of each of ``levels``; a game that ends starts the same level again.

    Args:
        config: Recording config; only its game, mode and action_repeat are used.
        levels: B level seeds.
        paint_velocity: As in ``open_games``.

    Raises:
        ValueError: If there are no levels, or the game or a level does not exist.
        MissingExtraError: If procgen is not installed.
    """
    require(bool(levels), "levels", list(levels), "one or more level seeds")
    states = [_level_state(replace(config, start_level=level, num_levels=1), paint_velocity) for level in levels]
    games = open_games(config, seed=0, num_envs=len(levels), paint_velocity=paint_velocity)
    games.restore(states)
    return games


@functools.lru_cache(maxsize=2048)
def _level_state(config: RecordConfig, paint_velocity: bool) -> bytes:
    """Return Procgen's state at the start of the config's only level; cached, since it takes a fraction of a second."""
    games = open_games(config, seed=0, num_envs=1, paint_velocity=paint_velocity)
    state = games.save()[0]
    games.close()
    return state


def import_procgen() -> Any:
    """Import Procgen without the deprecation notice of gym that its import prints.

    Raises:
        MissingExtraError: If it is not installed.
    """
    with (
        need_extra("procgen", "Games need Procgen, on Python 3.12 or older"),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        import procgen
    return procgen
