"""Connections that wait, linger or flood: they end, and those who play go on."""

import asyncio
import contextlib
import gc
import json
import logging
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from experiments.trust.attacks import join_game, pack_message
from genie_gym.play import door
from genie_gym.play.connection import FRAME_MESSAGE
from genie_gym.play.limits import Limits
from genie_gym.play.run import play_in_browsers
from genie_gym.play.server import build_app
from genie_gym.play.setup import PlaySetup
from genie_gym.play.visitor import Visitor

PATIENCE = 300
"""Seconds after which something that is waited for is taken to hang."""


@pytest.fixture
def open_server(serve: Any, setup: PlaySetup) -> Any:
    """Return a function from limits and token to a server in a thread."""

    def open_one(token: str | None = None, **limits: Any) -> Any:
        bounds = Limits(**limits)
        return serve(build_app(setup, bounds, token), bounds)

    return open_one


@pytest.fixture
def no_cycle_collection() -> Iterator[None]:
    """Keep Python from looking for cycles of objects, so that what lies in one stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@contextlib.contextmanager
def player(here: str) -> Iterator[Any]:
    """Yield a function that takes a step as an honest player."""
    with connect(f"ws://{here}/play", open_timeout=PATIENCE, ping_timeout=PATIENCE) as opened:
        assert json.loads(opened.recv(timeout=PATIENCE))["kind"] == "world"

        def ask(command: str = '{"do": "step", "action": 1}') -> None:
            opened.send(command)
            assert opened.recv(timeout=PATIENCE)[0] == FRAME_MESSAGE

        ask('{"do": "start"}')
        yield ask


def dial(here: str) -> socket.socket:
    host, port = here.split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


@contextlib.contextmanager
def all_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Catch what uvicorn logs, too, which goes to handlers of its own."""
    logger = logging.getLogger("uvicorn")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)


def has_ended(opened: socket.socket) -> bool:
    """Wait until the server closes a connection, and read away what it sends before."""
    with contextlib.suppress(ConnectionError):
        while opened.recv(1 << 20):
            pass
    return True


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_connection_that_asks_for_nothing_ends(open_server: Any, sent: bytes) -> None:
    with open_server(waiting_seconds=0.5) as here, player(here) as step, dial(here) as slow:
        slow.sendall(sent)
        assert has_ended(slow)
        step()


@pytest.mark.parametrize("way", ["closes", "hangs up during an answer", "is silent"])
def test_a_visitor_who_leaves_is_freed_at_once(open_server: Any, way: str, no_cycle_collection: None) -> None:
    with open_server(idle_seconds=1.0 if way == "is silent" else PATIENCE) as here:
        for _ in range(3):
            with join_game(here) as opened:
                opened.sendall(pack_message(b'{"do": "start"}'))
                if way == "hangs up during an answer":
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
                    opened.sendall(pack_message(b'{"do": "restart"}') * 6)
                elif way == "is silent":
                    opened.settimeout(PATIENCE)
                    while b"too long without a message" not in opened.recv(1 << 20):
                        pass
                else:
                    opened.sendall(pack_message(b"", 8))
        for _ in range(PATIENCE * 10):
            if not any(type(each) is Visitor for each in gc.get_objects()):
                return
            time.sleep(0.1)
        raise AssertionError("visitors who left are kept")


def test_a_connection_that_gives_no_token_ends(open_server: Any) -> None:
    with open_server(token="secret", waiting_seconds=0.5) as here, join_game(here) as silent:
        silent.settimeout(PATIENCE)
        assert has_ended(silent)


def test_of_many_waiting_connections_the_oldest_gives_way_and_players_stay(open_server: Any) -> None:
    with (
        open_server(waiting=4, waiting_seconds=PATIENCE) as here,
        player(here) as step,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(dial(here)) for _ in range(40)]
        for each in slow[:-4]:
            assert has_ended(each)
        step()
        with player(here) as late:
            late()
        slow[-1].sendall(f"GET / HTTP/1.1\r\nHost: {here}\r\n\r\n".encode())
        assert slow[-1].recv(100).startswith(b"HTTP/1.1 200")


FLOODS = {
    "empty fragments": pack_message(b"", opcode=0, is_last=False),
    "fragments of a letter": pack_message(b"x", opcode=0, is_last=False),
    "pings": pack_message(b"", opcode=9),
    "long pings": pack_message(b"x" * 125, opcode=9),
    "pongs": pack_message(b"", opcode=10),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_who_floods_is_made_to_wait_and_then_shut_out(open_server: Any, monkeypatch: Any, kind: str) -> None:
    monkeypatch.setattr(door, "_PATIENCE", 0.2)
    with open_server() as here, player(here) as step, join_game(here) as flooding:
        if "fragments" in kind:
            flooding.sendall(pack_message(b"", is_last=False))
        flooding.setblocking(False)
        sent, prepared = 0, FLOODS[kind] * 10_000
        with contextlib.suppress(ConnectionError):
            while True:
                step()
                with contextlib.suppress(BlockingIOError):
                    sent = (sent + flooding.send(prepared[sent:])) % len(prepared)
                with contextlib.suppress(BlockingIOError):
                    flooding.recv(1 << 20)
        step()


def test_who_does_not_wait_for_answers_is_shut_out(open_server: Any) -> None:
    with open_server() as here, player(here) as step, join_game(here) as hasty:
        hasty.settimeout(PATIENCE)
        hasty.sendall(pack_message(b'{"do": "start"}') * 100)
        assert has_ended(hasty)
        step()
        with connect(f"ws://{here}/play", open_timeout=PATIENCE) as patient:
            patient.recv(timeout=PATIENCE)
            for _ in range(4):
                patient.send('{"do": "start"}')
            for _ in range(4):
                assert patient.recv(timeout=PATIENCE)[0] == FRAME_MESSAGE


class Recorder:
    """A transport that notes whether it is read from."""

    is_read, is_open = True, True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def abort(self) -> None:
        self.is_open = False


def test_a_rest_and_the_protocols_own_pause_do_not_undo_each_other() -> None:
    async def play() -> None:
        inner = Recorder()
        transport = door._Transport(inner, None)  # type: ignore[arg-type]
        transport.charge(door._SAVED / 2)
        assert inner.is_read
        transport.charge(door._SAVED / 2 + 0.001)  # a rest of 0.05 s
        assert not inner.is_read
        transport.resume_reading()
        assert not inner.is_read, "the protocol cannot end the rest"
        transport.pause_reading()
        await asyncio.sleep(0.2)
        assert not inner.is_read, "the rest's end does not end the protocol's pause"
        transport.resume_reading()
        assert inner.is_read
        assert inner.is_open

    asyncio.run(play())


@pytest.mark.parametrize("protocol", [door._Web, door._Socket])
def test_all_is_read_in_small_pieces(protocol: Any) -> None:
    assert issubclass(protocol, asyncio.BufferedProtocol)
    assert len(protocol.get_buffer(protocol.__new__(protocol), -1)) == 8 * 1024


def test_a_text_that_is_no_utf_8_ends_its_connection_without_a_traceback(
    open_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with open_server() as here, all_logs(caplog), player(here) as step:
        for text in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"{\xfe}"):
            for pieces in (pack_message(text), pack_message(text, is_last=False) + pack_message(b"", opcode=0)):
                with join_game(here) as invalid:
                    invalid.settimeout(PATIENCE)
                    invalid.sendall(pieces)
                    assert has_ended(invalid)
        step()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_no_log_holds_the_token(open_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not even that of a visitor who writes it into the address."""
    with open_server(token="sesame") as here, all_logs(caplog):
        for path in ("play", "play?token=sesame"):
            with connect(f"ws://{here}/{path}", open_timeout=PATIENCE) as visitor:
                visitor.recv(timeout=PATIENCE)
                visitor.send('{"do": "enter", "token": "sesame"}')
                assert json.loads(visitor.recv(timeout=PATIENCE))["kind"] == "world"
        refused = contextlib.suppress(ConnectionClosed)
        with refused, connect(f"ws://{here}/play?token=sesame", open_timeout=PATIENCE) as visitor:
            visitor.send('{"do": "enter", "token": "wrong"}')
            visitor.recv(timeout=PATIENCE)
            visitor.recv(timeout=PATIENCE)
        with dial(here) as visitor:
            visitor.sendall(f"GET /?token=sesame HTTP/1.1\r\nHost: {here}\r\n\r\n".encode())
            assert visitor.recv(100).startswith(b"HTTP/1.1 200")
    assert "sesame" not in caplog.text


def test_the_log_takes_a_number_of_lines_and_says_how_many_it_left_out(monkeypatch: Any) -> None:
    quiet, clock = door._Quiet(), [1_000.0]
    monkeypatch.setattr(door.time, "monotonic", lambda: clock[0])
    records = [logging.LogRecord("asyncio", logging.ERROR, "", 0, "out of %s", ("files",), None) for _ in range(10_001)]
    assert sum(map(quiet.filter, records[:-1])) == door._LINES
    clock[0] += door._LINES_SECONDS + 1
    assert quiet.filter(records[-1])
    assert records[-1].getMessage() == f"{10_000 - door._LINES} lines left out; out of files"


def test_a_port_that_is_taken_ends_the_command(setup: PlaySetup) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit):
            play_in_browsers(setup, "127.0.0.1", taken.getsockname()[1], None)
