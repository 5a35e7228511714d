"""Hundreds of damaged messages and requests: each is answered or refused, in bounded time and memory."""

import contextlib
import json
import logging
import resource
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from genie_gym.play.connection import FILE_MESSAGE, FRAME_MESSAGE
from genie_gym.play.limits import Limits
from genie_gym.play.server import build_app
from genie_gym.play.setup import PlaySetup
from tests.play.mutator import Message, make_messages, make_request

MESSAGES, REQUESTS, MANY = 400, 200, 20_000
"""Number of cases in the suite, and of messages in the long run."""
MOST_SECONDS, MOST_MEGABYTES = 10.0, 700
"""Processor time that a message may take, and memory that all of them together may."""
SECONDS_TO_ANSWER = 300
KINDS = {"error", "fit", "picture", "replay"}


def send_all(setup: PlaySetup, cases: range) -> dict[str, int]:
    """Send a message for each case, each before a command that is refused by its number; count the answers."""
    counts: dict[str, int] = {}
    page = TestClient(build_app(setup, Limits(pause_seconds=0, error_pause_seconds=0)), base_url="http://127.0.0.1")
    with page, page.websocket_connect("/play", headers={"host": "127.0.0.1"}) as visitor:
        visitor.receive_json()
        visitor.send_text('{"do": "start"}')
        visitor.receive_bytes()
        visitor.send_text('{"do": "save", "as": "json"}')
        make = make_messages(json.loads(visitor.receive_bytes()[1:]))
        for case in cases:
            began = time.process_time()
            for answer in ask(visitor, make(case), f"case {case}"):
                counts[answer] = counts.get(answer, 0) + 1
            assert time.process_time() - began < MOST_SECONDS, f"case {case}"
    return counts


def ask(visitor: Any, message: Message, end: str) -> list[str]:
    """Return the kinds of the answers to a message."""
    (visitor.send_bytes if isinstance(message, bytes) else visitor.send_text)(message)
    visitor.send_text(json.dumps({"do": end}))
    kinds: list[str] = []
    while True:
        answer = visitor.receive()
        assert answer["type"] == "websocket.send", f"{end}: {answer}"
        if (packed := answer.get("bytes")) is not None:
            assert packed[0] in (FRAME_MESSAGE, FILE_MESSAGE)
            kinds.append("bytes")
            continue
        said = json.loads(answer["text"])
        if end in said.get("message", ""):
            return kinds
        assert said["kind"] in KINDS
        assert len(answer["text"]) < 100_000, "what a visitor sends is not sent back at length"
        kinds.append(said["kind"])


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_damaged_messages_are_answered_in_bounded_time_and_memory(setup: PlaySetup) -> None:
    before = peak()
    counts = send_all(setup, range(MESSAGES))
    assert counts["error"] > MESSAGES / 4
    assert set(counts) == {*KINDS, "bytes"}, "the damage should leave some messages valid"
    assert peak() - before < MOST_MEGABYTES


@pytest.mark.hostile
@pytest.mark.timeout(3600)
def test_many_damaged_messages_are_answered_in_bounded_time_and_memory(setup: PlaySetup) -> None:
    before = peak()
    counts = send_all(setup, range(MESSAGES, MANY))
    print(f"{sum(counts.values())} answers: {counts}, {peak() - before:.0f} MB")
    assert peak() - before < MOST_MEGABYTES


def test_damaged_requests_are_refused_without_a_server_error(
    serve: Callable[..., Any], setup: PlaySetup, caplog: pytest.LogCaptureFixture
) -> None:
    limits, answered = Limits(request_seconds=0, entry_seconds=0, waiting_seconds=1.0), 0
    with serve(build_app(setup, limits), limits) as here:
        logging.getLogger("uvicorn").addHandler(caplog.handler)
        host, port = here.split(":")
        for case in range(REQUESTS):
            address = (host, int(port))
            with contextlib.suppress(ConnectionError), socket.create_connection(address, SECONDS_TO_ANSWER) as visitor:
                visitor.sendall(make_request(case, here))
                answer = visitor.recv(100_000)
                answered += bool(answer)
                assert not answer.startswith(b"HTTP/1.1 5"), f"case {case}: {answer!r}"
        assert answered > REQUESTS / 2
        with socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER) as visitor:
            visitor.sendall(f"GET / HTTP/1.1\r\nHost: {here}\r\n\r\n".encode())
            assert visitor.recv(100_000).startswith(b"HTTP/1.1 200")
    logging.getLogger("uvicorn").removeHandler(caplog.handler)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert set(errors) <= {"ASGI callable returned without completing handshake."}  # of visitors who left meanwhile
