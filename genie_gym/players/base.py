"""Who plays while games are recorded: random players, and players from any Python file.

A player maps frames to real actions. What it is called in a recording is its spec:

    random                                     uniform over Procgen's 15 actions
    sticky, sticky(repeat), sticky(repeat, right_bias)
    expert                                     the shipped CoinRun player, which sees the velocity
    path/to/file.py:factory(argument, ...)     whatever the factory of that file returns
    ...+velocity                               the player must see Procgen's painted velocity

and ``SPEC=WEIGHT`` gives it a share of the games.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from genie_gym.data.procgen import NUM_MOVES, NUM_REAL_ACTIONS
from genie_gym.plugins import build_from_spec, maybe_number

VELOCITY = "+velocity"
_RIGHT = np.array([6, 7, 8], dtype=np.int32)


class Player(Protocol):
    """Frames in, real actions out."""

    def __call__(self, frames: np.ndarray, /) -> np.ndarray:
        """Choose for B games: (B, 64, 64, 3) uint8 -> (B,) integers in [0, 15)."""


class UniformRandom:
    """Every action as likely as the next, at every frame."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self._rng.integers(NUM_REAL_ACTIONS, size=len(frames), dtype=np.int32)


class StickyRandom:
    """Each game keeps its action for a while: more is seen, and every action moves something.

    Args:
        seed: Of the choices.
        repeat: Probability that a game keeps its action for one more frame.
        right_bias: Probability that a new action is one of the three that go right; others are uniform
            over the nine moves.

    Raises:
        ValueError: If a probability is not one.
    """

    def __init__(self, seed: int = 0, repeat: float = 0.9, right_bias: float = 0.25) -> None:
        for field, value in (("repeat", repeat), ("right_bias", right_bias)):
            if not 0 <= value <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {value}")
        self._rng = np.random.default_rng(seed)
        self._repeat, self._right_bias = repeat, right_bias
        self._actions = np.empty(0, dtype=np.int32)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        size = len(frames)
        goes_right = self._rng.random(size) < self._right_bias
        right, moves = self._rng.choice(_RIGHT, size), self._rng.integers(NUM_MOVES, size=size, dtype=np.int32)
        is_kept = self._rng.random(size) < self._repeat
        fresh = np.where(goes_right, right, moves)
        self._actions = np.where(is_kept, self._actions, fresh) if len(self._actions) == size else fresh
        return self._actions


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayerShare:
    """A player and its share of the games."""

    name: str
    """What recordings call it."""
    player: Callable[[int], Player]
    """Builds the player from a seed, once for every shard; picklable where workers record."""
    weight: float = 1.0
    """Share of the games, relative to the other players'."""
    sees_velocity: bool = False
    """Whether it is shown Procgen's painted velocity; never recorded."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"PlayerShare.weight must be positive, got {self.weight}")


def parse_share(text: str) -> PlayerShare:
    """``SPEC`` or ``SPEC=WEIGHT`` as a share; the spec becomes its name.

    Raises:
        ValueError: If there is no such player, or the weight is no positive number.
    """
    spec, weight = text.strip(), 1.0
    if not spec.endswith((")", VELOCITY)) and "=" in spec:
        spec, _, number = spec.rpartition("=")
        weight = float(_number("weight", number))
    player = load_player(spec, seed=0)  # a wrong spec is told now, not in a worker
    sees_velocity = spec.endswith(VELOCITY) or getattr(player, "sees_velocity", False)
    return PlayerShare(
        name=spec, player=functools.partial(load_player, spec), weight=weight, sees_velocity=sees_velocity
    )


def parse_shares(texts: Sequence[str]) -> list[PlayerShare]:
    """``parse_share`` of each."""
    return [parse_share(text) for text in texts]


def load_player(spec: str, seed: int = 0) -> Player:
    """The player that ``spec`` names.

    Args:
        spec: See the module; a factory gets ``seed=`` where it takes one.
        seed: Of the player's choices.

    Raises:
        ValueError: If there is no such player.
    """
    known: dict[str, Callable[..., Player]] = {
        "random": functools.partial(UniformRandom, seed),
        "sticky": functools.partial(StickyRandom, seed),
        "expert": functools.partial(_build_expert, seed=seed),
    }
    return cast(Player, build_from_spec("player", spec.removesuffix(VELOCITY), known, seed=seed))


def _build_expert(*, seed: int) -> Player:
    from genie_gym.players.expert import Expert  # who records random play needs no network

    return Expert(seed=seed)


def _number(field: str, text: str) -> float:
    number = maybe_number(text)
    if isinstance(number, str):
        raise ValueError(f"{field} must be a number, got {text!r}")
    return number
