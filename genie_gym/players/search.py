"""The CoinRun player that tries plans in copies of the game; it sees the whole state and bounds what can be solved."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genie_gym.checks import require
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import NUM_MOVES, Games, open_games
from genie_gym.data.procgen_state import digest_state, read_position, simplify_frames

_MOVES = np.array([8, 7, 4, 5, 2, 1, 6])  # right + jump, right, stay, jump, left + jump, left, right + down
_MOVE_SHARES = np.array([0.40, 0.24, 0.08, 0.08, 0.10, 0.06, 0.04])
_LONGEST_HOLD = 16  # steps for which a plan holds a move
_COPIES = 64  # games in which plans are tried at once


class _Result(NamedTuple):
    """The best of the plans from one state."""

    plan: np.ndarray
    """(H,) moves."""
    steps: int
    """Number of moves to play before the next search."""


class SearchPlayer:
    """Plans in copies of the game: it plays on along a random plan that gets the coin, or survives and gets farthest.

    A plan holds each of its moves for a few steps. What it plays depends on the state of each game and the seed alone,
    and not on the other games. It searches again once a plan is played, or where a game is not where the plan leads.

    Args:
        seed: Seed of the plans, 0 or more.
        plans: Number of plans of a search.
        horizon: Number of moves of a plan.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, seed: int = 0, plans: int = 64, horizon: int = 48) -> None:
        require(seed >= 0, "seed", seed, "0 or more")
        require(plans >= 2, "plans", plans, "2 or more")
        require(horizon >= 2, "horizon", horizon, "2 or more")
        self._seed, self._plans, self._horizon = seed, plans, horizon
        self._next: dict[bytes, np.ndarray] = {}  # rest of the plan by the digest of the state where it goes on
        self._rests: dict[bytes, np.ndarray] = {}  # rest of a plan that is to be compared with new ones
        self._copies: tuple[Games, Games] | None = None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        raise ValueError(f"player 'search' needs the states of its games to plan, got frames {frames.shape} alone")

    def plan(self, states: Sequence[bytes]) -> np.ndarray:
        """Choose the moves (B,) int32 of B games from their states, as ``Games.save`` returns them."""
        digests = [digest_state(state) for state in states]
        new = {digest: state for digest, state in zip(digests, states, strict=True) if digest not in self._next}
        if new:
            self._search(new)
        actions = np.array([self._next[digest][0] for digest in digests], dtype=np.int32)
        for digest in set(digests):
            del self._next[digest]
        return actions

    def _search(self, states: dict[bytes, bytes]) -> None:
        """Find plans from states, by digest, and remember them for all states on their way."""
        simple = {digest: simplify_frames(state) for digest, state in states.items()}
        for digest, state in simple.items():
            best = self._best(state, self._draw(digest, self._rests.pop(digest, None)))
            self._follow(digest, state, best)

    def _draw(self, digest: bytes, rest: np.ndarray | None) -> np.ndarray:
        """Draw plans (N, H) from a state; the first holds right + jump, the second goes on with the last plan."""
        rng = np.random.default_rng([self._seed, zlib.crc32(digest)])
        shape = (self._plans, self._horizon)
        moves = rng.choice(_MOVES, shape, p=_MOVE_SHARES)
        ends = rng.integers(1, _LONGEST_HOLD + 1, shape).cumsum(axis=1)
        held = (np.arange(self._horizon)[None, :, None] >= ends[:, None]).sum(axis=-1)
        plans = np.take_along_axis(moves, np.minimum(held, self._horizon - 1), axis=1)
        plans[0] = NUM_MOVES - 1
        if rest is not None:
            plans[1, : len(rest)] = rest
        return plans

    def _best(self, state: bytes, plans: np.ndarray) -> _Result:
        """Return the best of plans (N, H) from a state."""
        lives, is_won, reached = [np.concatenate(parts) for parts in zip(*self._try_all(state, plans), strict=True)]
        horizon = self._horizon
        if is_won.any():
            best = int(np.where(is_won, lives, horizon + 1).argmin())
            return _Result(plans[best], int(lives[best]))
        lives_on = lives > horizon
        if lives_on.any():
            best = int(np.where(lives_on, reached, -np.inf).argmax())
            return _Result(plans[best], horizon // 2)
        best = int(lives.argmax())
        return _Result(plans[best], max(1, int(lives[best]) // 2))

    def _try_all(self, state: bytes, plans: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        starts = range(0, len(plans), _COPIES)
        return [self._try(state, plans[start : start + _COPIES]) for start in starts]

    def _try(self, state: bytes, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play plans (n, H) in copies.

        Returns:
            (n,) step at which the level ends, H + 1 if it does not; (n,) whether it is won; (n,) x reached at the end.
        """
        number, horizon = plans.shape
        copies, _ = self._open()
        copies.restore([state] * number, range(number))
        ends, is_won = np.full(number, horizon + 1), np.zeros(number, dtype=np.bool_)
        moves = np.full(_COPIES, 4, dtype=np.int32)
        for step in range(horizon):
            moves[:number] = plans[:, step]
            copies.act(moves)
            rewards, starts = copies.outcomes()
            over = starts[:number] & (ends > horizon)
            ends[over] = step + 1
            is_won |= over & (rewards[:number] > 0)
            if is_won.any() or (ends <= horizon).all():
                break
        reached = np.full(number, -np.inf)
        alive = np.flatnonzero(ends > horizon)
        if not is_won.any():
            reached[alive] = [read_position(each).x for each in copies.save(alive)]
        return ends, is_won, reached

    def _follow(self, digest: bytes, state: bytes, best: _Result) -> None:
        """Remember a plan for each state on its way; its rest is tried again at its end."""
        _, guide = self._open()
        guide.restore([state])
        for step in range(best.steps):
            self._next[digest] = best.plan[step : best.steps]
            guide.act(best.plan[step : step + 1])
            digest = digest_state(guide.save()[0])
        self._rests[digest] = best.plan[best.steps :]

    def _open(self) -> tuple[Games, Games]:
        """Return the copies, and one more that follows the best plan; opened by the first search."""
        if self._copies is None:  # states bring their levels and mode along
            self._copies = (
                open_games(RecordConfig(), seed=0, num_envs=_COPIES),
                open_games(RecordConfig(), seed=0, num_envs=1),
            )
        return self._copies
