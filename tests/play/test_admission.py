"""The page admits some visitors and sends others away: too many, idle or greedy ones, other sites, and wrong tokens."""

import contextlib
import functools
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync import client as websocket_client

from genie_gym.play.connection import FRAME_MESSAGE
from genie_gym.play.limits import POLICY_VIOLATION, Limits
from genie_gym.play.run import require_address
from genie_gym.play.server import build_app
from genie_gym.play.setup import PlaySetup
from tests.play.person import HERE, SOCKET, Person

FULL = "the limit of 1 visitors is reached: try again later"
connect = functools.partial(websocket_client.connect, open_timeout=60, ping_timeout=60)


def test_a_visitor_beyond_the_limit_is_refused(open_page: Callable[..., TestClient]) -> None:
    page = open_page(visitors=1, entry_seconds=0)
    with page.websocket_connect(SOCKET) as socket:
        person = Person(socket)
        for _ in range(100):
            with page.websocket_connect(SOCKET) as late:
                assert late.receive_json() == {"kind": "error", "message": FULL}
                with pytest.raises(WebSocketDisconnect):
                    late.receive_json()
        person.ask(do="start")
    with page.websocket_connect(SOCKET) as socket:
        Person(socket).ask(do="start")


def test_visitors_who_enter_at_the_same_time_are_counted(open_page: Callable[..., TestClient]) -> None:
    """Several are asked for the token before the first one gives it."""
    page = open_page(token="secret", visitors=1, entry_seconds=0)
    with page.websocket_connect(SOCKET) as first, page.websocket_connect(SOCKET) as second:
        for socket in (first, second):
            assert socket.receive_json() == {"kind": "token"}
        for socket in (first, second):
            socket.send_text('{"do": "enter", "token": "secret"}')
        assert first.receive_json()["kind"] == "world"
        assert second.receive_json() == {"kind": "error", "message": FULL}


def test_an_idle_visitor_is_disconnected(open_page: Callable[..., TestClient]) -> None:
    with open_page(idle_seconds=0.05).websocket_connect(SOCKET) as socket:
        socket.receive_json()
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_a_visitor_who_does_not_read_is_disconnected_and_nobody_waits(serve: Any, setup: PlaySetup) -> None:
    limits = Limits(send_seconds=0.5, visitors=2, pause_seconds=0)

    def ask_on(greedy: Any) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                greedy.send('{"do": "restart"}')

    with serve(build_app(setup, limits), limits) as here, connect(f"ws://{here}/play") as other:
        other.recv()
        with connect(f"ws://{here}/play", max_queue=1, close_timeout=1) as greedy:
            greedy.send('{"do": "start"}')
            threading.Thread(target=ask_on, args=(greedy,), daemon=True).start()
            for order in ('{"do": "start"}', *['{"do": "step", "action": 1}'] * 20):
                other.send(order)
                assert other.recv(timeout=60)[0] == FRAME_MESSAGE
            deadline = time.monotonic() + 60
            while True:  # until the greedy visitor is disconnected
                assert time.monotonic() < deadline
                with connect(f"ws://{here}/play") as late:
                    if json.loads(late.recv())["kind"] == "world":
                        break
                time.sleep(0.2)
            with contextlib.suppress(OSError):  # it may be closed by now
                greedy.socket.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the sending thread


def test_an_upload_of_fifty_megabytes_is_aborted(serve: Any, setup: PlaySetup) -> None:
    with serve(build_app(setup), Limits()) as here:
        with connect(f"ws://{here}/play") as vast, contextlib.suppress(ConnectionClosed):
            vast.recv()
            vast.send(bytes(50 * 2**20))
            vast.recv(timeout=60)
        assert vast.close_code in (1009, 1006)  # too big, unless what was not read any more has undone the answer
        with connect(f"ws://{here}/play") as other:
            other.recv()
            other.send('{"do": "start"}')
            assert other.recv(timeout=60)[0] == FRAME_MESSAGE


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", "http://[::1", "http://127.0.0.1:x", "", "x"])
def test_other_sites_are_refused(open_page: Callable[..., TestClient], origin: str) -> None:
    page = open_page()
    with pytest.raises(WebSocketDisconnect) as refused, page.websocket_connect(SOCKET, headers={"origin": origin}):
        pass
    assert refused.value.code == POLICY_VIOLATION
    with page.websocket_connect(SOCKET, headers={"origin": HERE}) as socket:
        Person(socket).ask(do="start")


@pytest.mark.parametrize(
    "first",
    [
        '{"do": "enter", "token": "Secret"}',
        '{"do": "enter", "token": "secret2"}',
        '{"do": "enter", "token": null}',
        '{"do": "enter", "token": "\\ud800"}',
        '{"do": "start", "token": "secret"}',
        '["secret"]',
        "secret",
        "[" * 100_000,
        json.dumps({"do": "enter", "token": "secret" * 100_000}),
        b"secret",
        None,
    ],
)
def test_the_first_message_must_hold_the_token(open_page: Callable[..., TestClient], first: str | bytes | None) -> None:
    page = open_page(token="secret", waiting_seconds=0.5, visitors=1)
    with page.websocket_connect(f"{SOCKET}?token=secret") as socket:
        assert socket.receive_json() == {"kind": "token"}
        if first is not None:
            (socket.send_bytes if isinstance(first, bytes) else socket.send_text)(first)
        with pytest.raises(WebSocketDisconnect) as refused:
            socket.receive_json()
    assert (refused.value.code, refused.value.reason) == (POLICY_VIOLATION, "The token is missing or wrong.")
    with page.websocket_connect(SOCKET) as socket:
        socket.receive_json()
        socket.send_text('{"do": "enter", "token": "secret"}')
        Person(socket).ask(do="start")


def test_an_unknown_host_name_is_refused(open_page: Callable[..., TestClient]) -> None:
    """A foreign page could make its own host name point to this machine (DNS rebinding)."""
    page = open_page()
    assert page.get("/", headers={"host": "elsewhere.example"}).status_code == 400
    assert page.get("/").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/world", "/starts/1.png", "/static/play.js", "/static/index.html", "/static/nothing", "/nothing", "/play"]
    + [f"/starts/{number}.png" for number in ("9" * 5_000, "-1", "x", "%D9%A1", "1e0", "01", "+1", "%ff")],
)
@pytest.mark.parametrize(("method", "host"), [("GET", "127.0.0.1"), ("POST", "127.0.0.1"), ("GET", "elsewhere")])
def test_every_answer_has_the_headers_that_keep_other_pages_out(
    open_page: Callable[..., TestClient], path: str, method: str, host: str
) -> None:
    answer = open_page(request_seconds=0).request(method, path, headers={"host": host})
    assert answer.status_code < 500
    assert answer.status_code != 200 or path in (
        "/",
        "/world",
        "/starts/1.png",
        "/static/play.js",
        "/static/index.html",
    )
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "port", "token", "complaint"),
    [("0.0.0.0", 8000, None, "token must be given"), ("127.0.0.1", -1, None, "port must be in")],
)
def test_an_invalid_address_is_refused(host: str, port: int, token: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        require_address(host, port, token)
