"""The ``Game`` protocol, through which agents play, ``ProcgenGame``, and the games that commands know by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np

from agents.env_game import EnvGame
from genie_gym.configs import Mode
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import (
    FRAME_SIZE,
    MAX_GAME_STEPS,
    NUM_MOVES,
    NUM_REAL_ACTIONS,
    Observation,
    open_games,
    open_levels,
)
from genie_gym.data.record import record
from genie_gym.metrics.held_out import restrict
from genie_gym.players.specs import PlayerShare, parse_share

GameName = Literal["easy", "hard", "breakout"]
"""Names of the games that the commands play: CoinRun on easy or hard levels, or Atari's Breakout."""


class GameBatch(Protocol):
    """B games stepped together; when an episode ends, the game starts the next one in the same step."""

    def observe(self) -> Observation:
        """Return the current frames, the rewards of the last step, the episode starts and the level seeds."""

    def act(self, real_actions: np.ndarray) -> None:
        """Step every game; ``real_actions`` are (B,) integers."""

    def save(self, rows: np.ndarray | None = None) -> list[bytes]:
        """Return the state of every game, which ``restore`` takes, or of those with the indices ``rows``."""

    def restore(self, states: Sequence[bytes]) -> None:
        """Continue from states that ``save`` returned."""

    def close(self) -> None:
        """Free the games."""


class JoinedGames:
    """Several batches of games as one, a ``GameBatch``: their rows stand one batch after the other."""

    def __init__(self, parts: Sequence[GameBatch]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part.observe().frames) for part in parts])[:-1]

    def observe(self) -> Observation:
        fields = zip(*(part.observe() for part in self._parts), strict=True)
        return Observation(*(np.concatenate(field) for field in fields))

    def act(self, real_actions: np.ndarray) -> None:
        for part, actions in zip(self._parts, np.split(real_actions, self._ends), strict=True):
            part.act(actions)

    def save(self, rows: np.ndarray | None = None) -> list[bytes]:
        states = [state for part in self._parts for state in part.save()]
        return states if rows is None else [states[row] for row in rows]

    def restore(self, states: Sequence[bytes]) -> None:
        for part, first, end in zip(self._parts, [0, *self._ends], [*self._ends, len(states)], strict=True):
            part.restore(states[first:end])

    def close(self) -> None:
        for part in self._parts:
            part.close()


class Game(Protocol):
    """A game with levels: how it is opened and recorded, and when one of its levels counts as solved."""

    @property
    def num_actions(self) -> int:
        """Number of real actions, R."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""

    @property
    def max_episode_steps(self) -> int:
        """Number of steps after which the game cuts an episode off."""

    @property
    def moves(self) -> np.ndarray:
        """(R,) int64: the move that each real action makes; actions with the same effect make the same move."""

    @property
    def has_states(self) -> bool:
        """Whether the states of its games can be saved and restored, which some methods need."""

    def find_player(self, spec: str) -> PlayerShare:
        """Return the player that a spec names in this game, as for ``genie-gym record``; ``skilled`` is a good one."""

    def open_levels(self, levels: Sequence[int], paint_velocity: bool = False) -> GameBatch:
        """Open one game at the start of each level, given by its seed; after an episode, the level starts again."""

    def open_games(self, levels: str, num_envs: int, seed: int, paint_velocity: bool = False) -> GameBatch:
        """Open games on random ``training``, ``validation`` or ``test`` levels."""

    def record(
        self, levels: str, player: str, out: Path, frames: int, seed: int, num_envs: int = 64, workers: int = 1
    ) -> list[Path]:
        """Record a player on ``training``, ``validation`` or ``test`` levels, as ``genie_gym.data.record`` does."""

    def score_returns(self, returns: np.ndarray) -> np.ndarray:
        """Map the returns (L,) of episodes to (L,) float64: 1 where a level was solved, else 0."""


@dataclass(frozen=True, kw_only=True)
class ProcgenGame:
    """A game of Procgen whose only reward is 10 for a won episode, as in CoinRun."""

    num_actions: ClassVar[int] = NUM_REAL_ACTIONS
    frame_size: ClassVar[tuple[int, int]] = (FRAME_SIZE, FRAME_SIZE)
    max_episode_steps: ClassVar[int] = MAX_GAME_STEPS
    has_states: ClassVar[bool] = True
    name: str = "coinrun"
    """Procgen's name of the game."""
    mode: Mode = "easy"
    """Procgen's distribution mode."""

    @property
    def moves(self) -> np.ndarray:
        actions = np.arange(NUM_REAL_ACTIONS)
        return np.where(actions < NUM_MOVES, actions, 4)  # special keys do nothing, as move 4 does

    def find_player(self, spec: str) -> PlayerShare:
        return parse_share(spec)

    def open_levels(self, levels: Sequence[int], paint_velocity: bool = False) -> GameBatch:
        return open_levels(RecordConfig(game=self.name, mode=self.mode), levels, paint_velocity=paint_velocity)

    def open_games(self, levels: str, num_envs: int, seed: int, paint_velocity: bool = False) -> GameBatch:
        config = restrict(RecordConfig(game=self.name, mode=self.mode), levels)
        return open_games(config, seed=seed, num_envs=num_envs, paint_velocity=paint_velocity)

    def record(
        self, levels: str, player: str, out: Path, frames: int, seed: int, num_envs: int = 64, workers: int = 1
    ) -> list[Path]:
        config = RecordConfig(game=self.name, mode=self.mode, frames=frames, num_envs=num_envs, seed=seed)
        return record(restrict(config, levels), [self.find_player(player)], out, workers=workers)

    def score_returns(self, returns: np.ndarray) -> np.ndarray:
        return returns / 10


COINRUN = ProcgenGame()
"""CoinRun on easy levels, the default of functions that need only a game's actions and frame size."""
BREAKOUT = EnvGame(
    config=RecordConfig(env="ALE/Breakout-v5", fit="pad", random_start=30, episode_steps=250),
    goal=4,
    skilled="breakout",
)
"""Atari's Breakout for 250 actions of four screens each, 17 seconds: solved by four bricks of the lowest rows."""
_NAMED: dict[str, Game] = {"easy": COINRUN, "hard": ProcgenGame(mode="hard"), "breakout": BREAKOUT}


def make_game(name: GameName) -> Game:
    """Return the game of a name, which the commands of this package play."""
    return _NAMED[name]
