"""Damage of bytes and of JSON values, drawn from a seeded generator: the same seed damages the same file alike."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_WRONG: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    7,
    16.0,
    0.5,
    10_000,
    10**9,
    2**31,
    2**63,
    10**400,
    1e9,
    1e300,
    1e-320,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "x",
    "\ud800",
    "a" * 5000,
    "../../etc/passwd",
    "a\0b",
    [],
    {},
    [[]],
    [None],
    {"x": 1},
    list(range(100)),
]
"""Values of all types, and of none that a field has."""
_NUMBERS = (0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
"""Numbers that a file's lengths, counts and offsets are replaced by."""
_HEADS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n",
    b"<!DOCTYPE html><html><body>404</body></html>",
    b"ffconcat version 1.0\nfile other.mp4\n",
    b"#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    b"\x80\x05cos\nsystem\n",
    b"PK\x03\x04",
    b"[" * 100_000,
    b"",
)
"""Files that are something else than what they are named."""

Place = tuple[str | int, ...]


def list_fields(values: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the path of each field of JSON values, at any depth."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for name, value in inner:
        yield (*above, name)
        yield from list_fields(value, (*above, name))


def damage_values(rng: np.random.Generator, values: Any) -> Any:
    """Return a copy of JSON values with one or two fields left out, renamed or replaced."""
    damaged = copy.deepcopy(values)
    for _ in range(rng.integers(1, 3)):
        places = list(list_fields(damaged))
        if not places:
            return damaged
        *parents, name = places[rng.integers(len(places))]
        inner = damaged
        for parent in parents:
            inner = inner[parent]
        kind = rng.integers(10)
        if kind == 0:
            del inner[name]
        elif kind == 1 and isinstance(inner, dict):
            inner[f"{name}x"] = inner.pop(name)
        elif kind == 2 and isinstance(inner[name], int | float) and abs(inner[name]) < 1e300:
            inner[name] *= int(rng.choice([-1, 2, 3, 10, 1000]))
        else:
            inner[name] = copy.deepcopy(_WRONG[rng.integers(len(_WRONG))])
    return damaged


def damage_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Return bytes with one to three damages, most of them near the beginning, where files tell their sizes."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if damaged:
            start = int(len(damaged) ** rng.random()) - 1
            stop = min(start + int(rng.choice([1, 2, 4, 8, 64, 1024])), len(damaged))
            damage = _DAMAGES[rng.integers(len(_DAMAGES))]
            damage(rng, damaged, start, stop)
    return bytes(damaged)


def _flip(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    data[start] ^= 1 << int(rng.integers(8))


def _randomise(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    data[start:stop] = rng.bytes(stop - start)


def _blank(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    data[start:stop] = bytes([int(rng.choice([0, 255]))]) * (stop - start)


def _cut(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    del data[start:stop]


def _repeat(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    data[start:start] = data[start:stop]


def _truncate(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    del data[int(rng.integers(len(data))) :]


def _renumber(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    size, number = int(rng.choice([1, 2, 4, 8])), _NUMBERS[rng.integers(len(_NUMBERS))]
    packed = (number % 256**size).to_bytes(size, "little")
    data[start : start + size] = packed if rng.random() < 0.5 else packed[::-1]


def _move(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    other = int(rng.integers(len(data)))
    data[start:stop] = data[other : other + stop - start]


def _append(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    data += rng.bytes(stop - start)


def _replace(rng: np.random.Generator, data: bytearray, start: int, stop: int) -> None:
    if rng.random() < 0.2:
        data[:] = _HEADS[rng.integers(len(_HEADS))]


_DAMAGES: tuple[Callable[[np.random.Generator, bytearray, int, int], None], ...] = (
    _flip,
    _randomise,
    _blank,
    _cut,
    _repeat,
    _truncate,
    _renumber,
    _move,
    _append,
    _replace,
)
"""Damages of bytes between two places."""
