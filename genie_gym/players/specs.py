"""Players named by a spec, alone or with a share of the recorded games.

A player maps frames to real actions, and may remember; one that plans (``Planner``) maps states of the game.
Its spec is also its name in recordings:

    random                                     uniform over Procgen's 15 actions
    sticky, sticky(repeat), sticky(repeat, right_bias)    ``StickyRandom``, by default sticky(0.9, 0.25)
    skilled, skilled(temperature)              the best shipped CoinRun player, a network that sees the velocity
    expert                                     a weaker one, with which worlds are evaluated
    search                                     ``SearchPlayer``, which tries plans in copies of the game
    path/to/file.py:factory(argument, ...)     the player that the file's factory returns
    SPEC+velocity                              any of these, shown frames with Procgen's painted velocity

``SPEC=WEIGHT`` gives a player a share of the games.

In a Gymnasium environment (``genie-gym record --env``) ``random`` and ``sticky(repeat)`` draw from its action space, a
file's player is called with the environment's observations, ``breakout`` plays ALE/Breakout-v5, and the others, which
know CoinRun, cannot play.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from gymnasium import spaces

from genie_gym.checks import require
from genie_gym.players.breakout import BreakoutPlayer
from genie_gym.players.random import SpaceRandom, StickyRandom, UniformRandom
from genie_gym.plugins import build_from_spec, maybe_number

VELOCITY = "+velocity"
"""Suffix of the specs of players that see Procgen's painted velocity."""


class Player(Protocol):
    """Anything that maps frames to real actions."""

    def __call__(self, frames: np.ndarray, /) -> np.ndarray:
        """Choose the actions of B games: (B, 64, 64, 3) uint8 -> (B,) integers in [0, 15)."""


@runtime_checkable
class Planner(Protocol):
    """A player that looks into its games: where it plays them, ``plan`` is called in place of the player itself."""

    def plan(self, states: Sequence[bytes], /) -> np.ndarray:
        """Choose the actions (B,) integers in [0, 15) of B games from states of ``procgen.Games.save``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayerShare:
    """A player and its share of the games."""

    name: str
    """Name of the player in recordings."""
    player: Callable[[int], Player]
    """Factory that builds the player from a seed, once for every shard; picklable if several processes record."""
    weight: float = 1.0
    """Share of the games, relative to the other players'."""
    sees_velocity: bool = False
    """Whether the player sees Procgen's painted velocity, which is never recorded."""
    digest: str = ""
    """Digest of the player's file, which a recording keeps; empty for players that ship."""

    def __post_init__(self) -> None:
        require(0 < self.weight < np.inf, "PlayerShare.weight", self.weight, "positive")


def parse_share(text: str, space: spaces.Space[Any] | None = None) -> PlayerShare:
    """Parse ``SPEC`` or ``SPEC=WEIGHT``; the spec becomes the player's name.

    Args:
        text: Text to parse.
        space: Action space of a Gymnasium environment; None for Procgen.

    Raises:
        ValueError: If the player does not exist, or the weight is not a positive number.
    """
    spec, weight = text.strip(), 1.0
    if not spec.endswith((")", VELOCITY)) and "=" in spec:  # an "=" within brackets gives no weight
        spec, _, number = spec.rpartition("=")
        value = maybe_number(number)
        if isinstance(value, str):
            raise ValueError(f"weight must be a number, got {number!r}")
        weight = float(value)
    player = load_player(spec, 0, space)  # a wrong spec fails here and not in a worker
    sees_velocity = spec.endswith(VELOCITY) or getattr(player, "sees_velocity", False)
    factory = functools.partial(load_player, spec, space=space)
    file = Path(spec.rpartition(":")[0])
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""
    return PlayerShare(name=spec, player=factory, weight=weight, sees_velocity=sees_velocity, digest=digest)


def parse_shares(texts: Sequence[str], space: spaces.Space[Any] | None = None) -> list[PlayerShare]:
    """Parse several ``SPEC`` or ``SPEC=WEIGHT``, for Procgen or for an environment with an action space."""
    return [parse_share(text, space) for text in texts]


def load_player(spec: str, seed: int = 0, space: spaces.Space[Any] | None = None) -> Player:
    """Build the player that ``spec`` names (see the module's docstring); factories that accept it get ``seed``.

    Factories that accept ``space`` get the action space of a Gymnasium environment, None for Procgen.

    Raises:
        ValueError: If the player does not exist.
    """
    if space is not None:
        in_space: dict[str, Callable[..., Player]] = {
            "breakout": functools.partial(BreakoutPlayer, space),
            "random": functools.partial(SpaceRandom, space, seed),
            "sticky": lambda repeat=0.9: SpaceRandom(space, seed, repeat),
        }
        return cast(Player, build_from_spec("player", spec, in_space, seed=seed, space=space))
    known: dict[str, Callable[..., Player]] = {
        "random": functools.partial(UniformRandom, seed),
        "sticky": functools.partial(StickyRandom, seed),
        "skilled": functools.partial(_build_skilled, seed=seed),
        "expert": functools.partial(_build_expert, seed=seed),
        "search": functools.partial(_build_search, seed=seed),
    }
    return cast(Player, build_from_spec("player", spec.removesuffix(VELOCITY), known, seed=seed, space=None))


def _build_expert(*, seed: int) -> Player:
    from genie_gym.players.networks import NetworkPlayer, load_expert_policy  # random players need no network

    return NetworkPlayer(load_expert_policy(), seed)


def _build_skilled(temperature: float = 0.25, *, seed: int) -> Player:
    from genie_gym.players.networks import NetworkPlayer, load_skilled_policy

    return NetworkPlayer(load_skilled_policy(), seed, temperature)


def _build_search(*, seed: int) -> Player:
    from genie_gym.players.search import SearchPlayer

    return SearchPlayer(seed)
