"""Seeded damage: valid messages and requests of the page, changed as a stranger or a broken program would do it."""

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

Message = str | bytes
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 8, 2**31, 2**62, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "0", "crop", "\ud800", "\x00", "é" * 300, "x" * 3_000, "x" * 300_000,
    [], [[]], [0], [None], [2**62] * 50, [{}] * 20_000, {}, {"do": "step"}, {"a": {"b": {}}},
)  # fmt: skip
"""What a field may be replaced by."""


def damage_value(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one part of it replaced, dropped, doubled or renamed."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(sorted(value))
        kind = chance.random()
        if kind < 0.1:
            return {key: each for key, each in value.items() if key != name}
        if kind < 0.2:
            return {**value, chance.choice(["", "do", "x" * 1_000, "\ud800", "format"]): value[name]}
        return {**value, name: damage_value(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return chance.choice([[*value[:place], damage_value(value[place], chance), *value[place + 1 :]], value * 5])
    return chance.choice(VALUES)


def damage_bytes(packed: bytes, chance: random.Random) -> bytes:
    """Return bytes of which some are changed, cut off, doubled or inserted."""
    changed = bytearray(packed or b"\x00")
    for _ in range(chance.choice([1, 1, 2, 8])):
        place, kind = chance.randrange(len(changed) + 1), chance.randrange(5)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            changed[place:place] = chance.randbytes(chance.choice([1, 4, 100]))
        elif kind == 2:
            changed[place:place] = changed[place : place + 50]
        elif place < len(changed):
            changed[place] = chance.choice([0, 255, changed[place] ^ (1 << chance.randrange(8))])
    return bytes(changed)


def draw_png(chance: random.Random, width: int, height: int) -> bytes:
    """Return a small PNG whose header promises ``width`` x ``height`` pixels of some kind."""
    depth, kind = chance.choice([(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 4), (8, 6), (16, 6), (3, 7)])
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, chance.choice([0, 0, 1]))
    pixels = zlib.compress(bytes(chance.choice([0, 1_000, 200_000])))
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    if chance.random() < 0.3:
        chunks.insert(1, (chance.choice([b"iCCP", b"zTXt", b"eXIf", b"tRNS", b"PLTE", b"acTL"]), chance.randbytes(30)))
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def draw_picture(chance: random.Random) -> bytes:
    """Return a valid picture of a format that the page reads, and now and then of another one."""
    mode = chance.choice(["1", "L", "P", "RGB", "RGBA", "I;16", "CMYK"])
    kind = chance.choice(["PNG", "PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
    size = chance.choice([(64, 64), (80, 60), (1, 1), (1, 3_000), (3_000, 1), (200, 3)])
    file = io.BytesIO()
    image = Image.new(mode, size)
    try:
        image.save(file, kind)
    except (OSError, ValueError):  # not every format holds every mode
        image.convert("RGB").save(file, kind)
    return file.getvalue()


def make_messages(trajectory: dict[str, Any]) -> Callable[[int], Message]:
    """Return a function from a case's number to its message, given a trajectory of the world that is played."""

    def make(case: int) -> Message:
        chance = random.Random(case)
        commands: list[dict[str, Any]] = [
            {"do": "start", "number": 1},
            {"do": "fit", "as": "pad"},
            {"do": "step", "action": 3},
            {"do": "drive"},
            {"do": "undo"},
            {"do": "restart"},
            {"do": "save", "as": chance.choice(["gif", "mp4", "json"])},
            {"do": "enter", "token": "secret"},
        ]
        kind = chance.randrange(6)
        if kind == 0:
            picture = draw_picture(chance)
            return damage_bytes(picture, chance) if chance.random() < 0.8 else picture
        if kind == 1:
            return draw_png(chance, *(chance.choice([0, 1, 63, 64, 20_000, 2**31 - 1]) for _ in range(2)))
        if kind == 2:
            return json.dumps(damage_value(chance.choice(commands), chance))
        if kind == 3:
            text = json.dumps(chance.choice(commands)).encode()
            return damage_bytes(text, chance).decode(errors="replace")
        changed: Any = damage_value(trajectory, chance)
        if chance.random() < 0.2:
            prompt = base64.b64encode(damage_bytes(draw_png(chance, 64, 64), chance)).decode()
            changed = {**trajectory, "prompt": [prompt] * chance.choice([1, 4, 5])}
        text = json.dumps(changed)
        if kind == 4:
            text = damage_bytes(text.encode(), chance).decode(errors="replace")
        return json.dumps({"do": "replay", "trajectory": text})

    return make


def make_request(case: int, host: str) -> bytes:
    """Return the bytes of a damaged HTTP request: of its path, its headers, or anything in it."""
    chance = random.Random(case)
    numbers = ["0", "-1", "9" * 5_000, "0x1", "1e3", "%D9%A1", "%00", "..%2f..%2fserver.py", "%ff%fe", "a" * 3_000]
    path = chance.choice(["/", "/world", "/starts/{}.png", "/static/{}", "/play", "/{}", "//{}", "/static/play.js?{}"])
    headers = {"Host": chance.choice([host, host, host, "", "[::1", "a" * 500, "elsewhere.example"])}
    if chance.random() < 0.5:
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
        headers |= {"Sec-WebSocket-Version": chance.choice(["13", "13", "8", "x"])}
        headers |= {"Sec-WebSocket-Key": chance.choice(["dGhlIHNhbXBsZSBub25jZQ==", "", "AA", "\xff"])}
    if chance.random() < 0.5:
        headers["Origin"] = chance.choice(["http://[::1", "null", "http://\xff", "http://" + host, "x" * 3_000])
    if chance.random() < 0.3:
        headers["Range"] = chance.choice(["bytes=0-0,1-1" + ",2-2" * 500, "bytes=-", "bytes=9-1", "x"])
    if chance.random() < 0.2:
        headers |= {"Content-Length": chance.choice(["-1", "99999999999", "x"]), "X-Forwarded-For": "\xff"}
    method = chance.choice(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "G\xcbT"])
    lines = [f"{method} {path.format(chance.choice(numbers))} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    request = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return damage_bytes(request, chance) if chance.random() < 0.3 else request
