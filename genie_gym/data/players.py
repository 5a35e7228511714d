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
import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from genie_gym.data.procgen import NUM_MOVES, NUM_REAL_ACTIONS

VELOCITY = "+velocity"
_CALL = re.compile(r"(?P<name>[^()]+?)(\((?P<arguments>[^()]*)\))?")
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
        spec: See the module; a factory gets its arguments as numbers where they read as such, else as
            strings, and ``seed=`` where it takes one.
        seed: Of the player's choices.

    Raises:
        ValueError: If there is no such player.
    """
    path, colon, call = spec.removesuffix(VELOCITY).rpartition(":")
    match = _CALL.fullmatch(call)
    if match is None:
        raise ValueError(f"player must be random, sticky, expert or FILE.py:FACTORY(ARGUMENTS), got {spec!r}")
    name, arguments = match["name"], _arguments(match["arguments"])
    if colon:
        factory = getattr(_load_module(Path(path)), name, None)
    else:
        factory = {"random": UniformRandom, "sticky": StickyRandom, "expert": _build_expert}.get(name)
    if not callable(factory):
        raise ValueError(f"player {spec!r}: there is no {name!r} in {path or 'random, sticky, expert'}")
    return _build(factory, arguments, seed, spec)


def _build_expert(*, seed: int) -> Player:
    from genie_gym.data.expert import Expert  # who records random play needs no network

    return Expert(seed=seed)


def _build(factory: Callable[..., Player], arguments: list[str | float], seed: int, spec: str) -> Player:
    if factory is StickyRandom or factory is UniformRandom:
        factory = functools.partial(factory, seed)
    elif "seed" in inspect.signature(factory).parameters:
        factory = functools.partial(factory, seed=seed)
    try:
        inspect.signature(factory).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"player {spec!r}: {error}") from error
    return factory(*arguments)


def _arguments(text: str | None) -> list[str | float]:
    parts = [part.strip().strip("'\"") for part in (text or "").split(",")]
    return [_maybe_number(part) for part in parts if part]


def _maybe_number(text: str) -> str | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(field: str, text: str) -> float:
    number = _maybe_number(text)
    if isinstance(number, str):
        raise ValueError(f"{field} must be a number, got {text!r}")
    return number


def _load_module(path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"player file must be a Python file, got {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"genie_gym_player_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
