"""Saved states of Procgen's games: what is read from them, and how their frames are made cheap to draw."""

import hashlib
import struct
from typing import NamedTuple

from genie_gym.checks import require

_NUM_OPTIONS = 12  # integers after the game's name
_MONOCHROME, _BACKGROUND = 2, 4  # which of the options draw plain rectangles and a background
_NUM_LEVEL_FIELDS = 5  # integers between the options and the random numbers
_NUM_EPISODE_FIELDS = 15  # 4-byte fields between the random numbers and the entities
_GRID_BYTES = 3 * 4 + 64 * 64 * 4  # width, height, length and cells of CoinRun's grid
_COINRUN_FIELDS = 8  # 4-byte fields after the grid
_VISIBILITY = -(_GRID_BYTES + 4 * _COINRUN_FIELDS + 8)
_TILES_SEEN = 13.0  # CoinRun's visibility: height and width of a frame in tiles


class AgentPosition(NamedTuple):
    """The position of the agent in its level, in tiles."""

    x: float
    """Distance from the left end; the coin is at the right end."""
    y: float
    """Height above the bottom."""


def read_position(state: bytes, game: str = "coinrun") -> AgentPosition:
    """Read the agent's position from a state of a game that ``Games.save`` returned.

    Raises:
        ValueError: If the state is of another game.
    """
    return AgentPosition(*struct.unpack_from("<ff", state, _find_agent(state, game)))


def digest_state(state: bytes) -> bytes:
    """Return 16 bytes that identify level, random numbers, time and agent of a state of CoinRun, however it is drawn.

    Raises:
        ValueError: If the state is of another game.
    """
    start = _find_options(state) + 4 * _NUM_OPTIONS
    return hashlib.blake2b(state[start : _find_agent(state) + 16], digest_size=16).digest()


def _find_agent(state: bytes, game: str = "coinrun") -> int:
    """Return the offset of the agent's x, y and velocities, four floats."""
    offset = _find_options(state, game) + 4 * (_NUM_OPTIONS + _NUM_LEVEL_FIELDS)
    for _ in range(2):  # each random number generator is a flag and its state as text
        offset += 8 + _read_int(state, offset + 4)
    offset += 4 * (_NUM_EPISODE_FIELDS + 2)  # the grid's size and the number of entities, of which the agent is first
    return offset


def simplify_frames(state: bytes) -> bytes:
    """Return a state of CoinRun whose play is the same, but whose frames show little and are drawn faster.

    Raises:
        ValueError: If the state is of another game.
    """
    options, simple = _find_options(state), bytearray(state)
    (seen,) = struct.unpack_from("<f", state, len(state) + _VISIBILITY)
    require(seen in (1.0, _TILES_SEEN), "visibility in a state of CoinRun", seen, f"{_TILES_SEEN}")
    struct.pack_into("<i", simple, options + 4 * _MONOCHROME, 1)
    struct.pack_into("<i", simple, options + 4 * _BACKGROUND, 0)
    struct.pack_into("<f", simple, len(state) + _VISIBILITY, 1.0)
    return bytes(simple)


def _find_options(state: bytes, game: str = "coinrun") -> int:
    """Return the offset of the options, which follow the version and the game's name."""
    end = 8 + _read_int(state, 4)
    name = state[8:end].decode()
    require(name == game, "game of a state", name, game)
    return end


def _read_int(state: bytes, offset: int) -> int:
    (value,) = struct.unpack_from("<i", state, offset)
    return int(value)
