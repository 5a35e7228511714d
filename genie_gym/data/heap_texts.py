"""Texts of variable length in HDF5 files, where shards of version 1 keep theirs, read from the bytes of the file.

HDF5 itself allocates what such a text claims to be long, up to 4 GiB, before it looks for the text, and never comes
back from a heap with some damages. The layout is that of the HDF5 file format specification: a superblock of version 0,
object headers and attributes of version 1, and global heaps.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SUPERBLOCK = b"\x89HDF\r\n\x1a\n\0"
"""First bytes of a file: HDF5's signature and the version of the superblock."""
_ROOT = 64
"""Place of the address of the root group's header."""
_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_POINTER = struct.Struct("<IQI")
"""What stands in the place of a text: its bytes, the address of its heap, and its number there."""
_HEADER_BYTES = 1 << 20
_HEAP_TEXTS = 1 << 16
"""Most bytes of a header, which may continue in many places, and most texts of a heap."""


def read_attribute_text(path: Path, name: str) -> str:
    """Return the text of an attribute of a file; ``ValueError`` or ``struct.error`` if it is not whole in the file."""
    with path.open("rb") as file:
        for body in _list_attributes(file):
            found, value = _split_attribute(body)
            if found == name.encode():
                return _read_text(file, value)
    raise ValueError(f"attribute {name!r} must lie in the file's header, got none there")


def read_dataset_text(path: Path, offset: int) -> str:
    """Return the text of a dataset whose value lies at an offset in the file; errors as of ``read_attribute_text``."""
    with path.open("rb") as file:
        return _read_text(file, _read(file, offset, _POINTER.size))


def _list_attributes(file: BinaryIO) -> Iterator[bytes]:
    """Yield the attributes of a file as its root group's header holds them."""
    head = _read(file, 0, _ROOT + 8)
    if not head.startswith(_SUPERBLOCK) or head[13:15] != b"\x08\x08":
        raise ValueError("texts of variable length must lie in a file of HDF5's oldest format, got another")
    start = int.from_bytes(head[_ROOT:], "little")
    version, _, size = struct.unpack("<B7sI4x", _read(file, start, 16))
    if version != 1:
        raise ValueError(f"texts of variable length must lie in a header of version 1, got {version}")
    blocks, room = [(start + 16, size)], _HEADER_BYTES
    while blocks:
        start, size = blocks.pop()
        room -= size + 16  # also a block of no bytes counts: blocks may name each other
        if room < 0:
            raise ValueError(f"the file's header must have at most {_HEADER_BYTES} bytes, got more")
        block, place = _read(file, start, size), 0
        while place + 8 <= size:
            kind, length = struct.unpack_from("<HH", block, place)
            body = block[place + 8 : place + 8 + length]
            if kind == _CONTINUATION:
                blocks.append(struct.unpack("<QQ", body[:16]))
            elif kind == _ATTRIBUTE:
                yield body
            place += 8 + length


def _split_attribute(body: bytes) -> tuple[bytes, bytes]:
    """Return the name of an attribute and what stands in the place of its text."""
    version, name, kind, shape = struct.unpack_from("<BxHHH", body)
    if version != 1:
        raise ValueError(f"attributes of variable length must be of version 1, got {version}")
    value = 8 + _round_up(name) + _round_up(kind) + _round_up(shape)
    return body[8 : 8 + name].rstrip(b"\0"), body[value : value + _POINTER.size]


def _read_text(file: BinaryIO, pointer: bytes) -> str:
    """Return the text that a pointer names, if a heap in the file holds it."""
    length, address, wanted = _POINTER.unpack(pointer)
    if not length:
        return ""
    signature, size = struct.unpack("<4s4xQ", _read(file, address, 16))
    heap, place = _read(file, address, size) if signature == b"GCOL" else b"", 16
    for _ in range(_HEAP_TEXTS):
        if place + 16 > len(heap):
            break
        number, held = struct.unpack_from("<H6xQ", heap, place)
        if number == wanted and length <= held <= len(heap) - place - 16:
            return heap[place + 16 : place + 16 + length].decode("utf-8")
        place += 16 + _round_up(held)
    raise ValueError(f"a text of {length} bytes must lie in a heap of the file, got none there")


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    """Return bytes of a file; ``ValueError`` unless it holds all of them."""
    room = os.fstat(file.fileno()).st_size
    if start + size > room:
        raise ValueError(f"{size} bytes at {start} must lie in the file, got one of {room} bytes")
    file.seek(start)
    return file.read(size)


def _round_up(size: int) -> int:
    """Return the next multiple of 8."""
    return -(-size // 8) * 8
