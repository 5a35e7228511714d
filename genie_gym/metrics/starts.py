"""States of CoinRun to start from: in the middle of a level, with the player on the ground."""

import contextlib
import functools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genie_gym.checks import require
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import Games, open_games
from genie_gym.metrics.held_out import LEVELS, restrict
from genie_gym.metrics.motion import track_player
from genie_gym.players.specs import load_player

START_FRAMES = 4
"""Number of frames up to the start, which show how fast things move."""
STAY, UP, RIGHT = 4, 5, 7
"""Real actions of CoinRun: no key, the key up alone, the key right alone."""
_EARLIEST, _LATEST, _RANDOM_STEPS = 16, 64, 24
"""Range of the step up to which the shipped player plays a level, and steps that the random player adds."""
_PROBE_PERIOD, _PROBE_STEPS, _LEAST_RISE = 4, 1, 4
"""Steps between two looks for starts; steps for which up is held then; pixels by which it has to lift the player.

One step only: within two, a player that falls may land and jump.
"""
_SIGHT_STEPS, _FREE_WAY = 16, 20
"""Steps of right, and pixels by which they carry a player on free ground, even one that was running to the left."""
_PATIENCE = 5_000
"""Steps of play after which a game without a start is an error."""


class Starts(NamedTuple):
    """M states of the game in which the player is on the ground."""

    frames: np.ndarray
    """(M, ``START_FRAMES``, 64, 64, 3) uint8, the last of which shows the state."""
    states: tuple[bytes, ...]
    """State of each game, for ``Games.restore``."""
    has_obstacle: np.ndarray
    """(M,) bool: True if a wall, a pit, an enemy or the end of the level lies in sight to the right."""
    level_seeds: np.ndarray
    """(M,) int64, all different."""


def draw_starts(mode: str, levels: str, number: int, seed: int) -> Starts:
    """Play CoinRun and draw states in the middle of levels, on the ground, one from each level.

    The shipped player plays every game up to a random step of the level; in every second game the sticky-random player
    then takes over. From there on, the first state on the ground is drawn; a level that ends before is replaced by the
    next. A player is on the ground if the four frames show no motion up or down and the key up lifts it,
    which is tried on a saved state: a player that has just landed is left out. An obstacle is in sight if
    right, held for 16 steps, carries the player less far than on free ground or ends the game.

    Args:
        mode: Procgen distribution mode.
        levels: ``test``, ``validation`` or ``training``.
        number: Number of starts M.
        seed: Seed of games and play.

    Raises:
        ValueError: If there are no such levels, or not twice as many levels as starts.
        MissingExtraError: If procgen is not installed.
    """
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by RecordConfig
    most = LEVELS[levels][1] // 2
    require(1 <= number <= most, "number", number, f"in 1..{most}, half the number of levels")
    spare = number + number // 2 + 4  # some games wait for long: a player is stuck, or every level ends too early
    open_several = functools.partial(open_games, config, seed=seed)
    with (
        contextlib.closing(open_several(num_envs=spare)) as games,
        contextlib.closing(open_several(num_envs=spare, paint_velocity=True)) as painted,
    ):
        frames, states, level_seeds = _play_to_starts(games, painted, number, seed)
    with contextlib.closing(open_several(num_envs=number)) as games:
        sight, lasts = hold_key(games, states, RIGHT, _SIGHT_STEPS)
    progress = track_player(to_float(sight))[:, -1, 0].numpy()
    return Starts(frames, states, (lasts < _SIGHT_STEPS) | (progress < _FREE_WAY), level_seeds)


def hold_key(games: Games, states: Sequence[bytes], real_action: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Restore B games and hold a key.

    Returns:
        (B, 1 + steps, 64, 64, 3) uint8 frames, the first of which shows the restored state, and (B,) int64, the last
        step before the game ended: later frames show another level or try. It is ``steps`` for games that go on.
    """
    games.restore(states)
    frames, lasts = [games.observe().frames.copy()], np.full(len(states), steps)
    for step in range(steps):
        games.act(np.full(len(states), real_action, dtype=np.int32))
        now = games.observe()
        frames.append(now.frames.copy())
        lasts[now.episode_starts] = np.minimum(lasts[now.episode_starts], step)
    return np.stack(frames, axis=1), lasts


def _play_to_starts(
    games: Games, painted: Games, number: int, seed: int
) -> tuple[np.ndarray, tuple[bytes, ...], np.ndarray]:
    """Play games and their twins with the velocity painted; return frames, states and level seeds of the starts."""
    expert, sticky, generator = load_player("expert", seed), load_player("sticky", seed), np.random.default_rng(seed)
    now = games.observe()
    num_games = len(now.frames)
    is_random, steps, changes = np.arange(num_games) % 2 == 1, np.zeros(num_games, np.int64), np.zeros(num_games)
    found: dict[int, tuple[np.ndarray, bytes, int]] = {}  # in the order in which they are found
    recent: deque[np.ndarray] = deque(maxlen=START_FRAMES)
    for step in range(_PATIENCE):
        recent.append(now.frames.copy())
        steps = np.where(now.episode_starts, 0, steps + 1)
        changes = np.where(steps == 0, generator.integers(_EARLIEST, _LATEST, size=num_games), changes)
        waits = np.array([row not in found for row in range(num_games)])
        is_ready = waits & (steps >= changes + _RANDOM_STEPS * is_random)
        if step % _PROBE_PERIOD == 0 and is_ready.any():
            saved = games.save()
            for row in _find_grounded(games, saved, recent, np.flatnonzero(is_ready)):
                if all(now.level_seeds[row] != level for _, _, level in found.values()):
                    found[row] = (np.stack([each[row] for each in recent]), saved[row], int(now.level_seeds[row]))
        randoms, others = ([row for row in found if is_random[row] == kind] for kind in (True, False))
        if len(randoms) >= number // 2 and len(others) >= number - number // 2:
            chosen = sorted(randoms[: number // 2] + others[: number - number // 2])
            frames, states, levels = zip(*(found[row] for row in chosen), strict=True)
            return np.stack(frames), states, np.array(levels)
        real_actions = sticky(now.frames)
        is_trained = waits & ~(is_random & (steps >= changes))
        real_actions[is_trained] = expert(painted.observe().frames[is_trained])
        for twin in (games, painted):
            twin.act(real_actions)
        now = games.observe()
    raise ValueError(f"number of starts must be smaller: {number} were not reached in {_PATIENCE} steps of each game")


def _find_grounded(games: Games, states: list[bytes], recent: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return those of the rows whose player was and is on the ground; leaves all games in the given states."""
    heights = track_player(to_float(np.stack([frames[rows] for frames in recent], axis=1)))[..., 1]
    rows = rows[(heights == 0).all(dim=1).numpy()]
    if not rows.size:
        return rows
    ends = [to_float(hold_key(games, states, key, _PROBE_STEPS)[0][rows]) for key in (STAY, UP)]
    games.restore(states)
    stays, rises = (track_player(videos)[:, -1, 1] for videos in ends)
    return rows[(rises - stays >= _LEAST_RISE).numpy()]
