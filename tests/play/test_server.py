"""Visitors at the page's sockets, honest and hostile, without a browser."""

import asyncio
import contextlib
import functools
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync import client as websocket_client

from genie_gym.data.video import read_video
from genie_gym.envs.session import Start
from genie_gym.play.batch_scheduler import BatchScheduler
from genie_gym.play.config import PlayConfig
from genie_gym.play.connection import (
    FILE_MESSAGE,
    FRAME_HEADER,
    FRAME_MESSAGE,
    NO_ACTION,
    describe_world,
)
from genie_gym.play.limits import POLICY_VIOLATION, Limits
from genie_gym.play.run import require_address
from genie_gym.play.server import build_app
from genie_gym.play.setup import PlaySetup, prepare_play
from genie_gym.play.trajectory import format_trajectory, parse_trajectory
from genie_gym.play.visitor import Visitor, replay

HERE = "http://127.0.0.1"
SOCKET = "ws://127.0.0.1/play"
FULL = "the limit of 1 visitors is reached: try again later"
Enter = Callable[..., Any]
connect = functools.partial(websocket_client.connect, open_timeout=60, ping_timeout=60)


@pytest.fixture
def setup(tiny_checkpoint: Path) -> PlaySetup:
    return prepare_play(PlayConfig(checkpoint=str(tiny_checkpoint)))


@pytest.fixture
def open_page(setup: PlaySetup) -> Iterator[Callable[..., TestClient]]:
    """Return a function from token, driver and limits to a page; all pages are closed at the end."""
    clients: list[TestClient] = []

    def build(token: str | None = None, driver: Any = None, **limits: Any) -> TestClient:
        app = build_app(setup._replace(driver=driver), Limits(**limits), token)
        client = TestClient(app, base_url=HERE)
        clients.append(client.__enter__())
        return client

    yield build
    for client in clients:
        client.__exit__(None, None, None)


class Person:
    """A person at a page's socket, who has received the description of the world."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.world = socket.receive_json()

    def ask(self, **order: Any) -> np.ndarray:
        """Send an order and return the frame that answers it."""
        self.socket.send_text(json.dumps(order))
        return self.frame()

    def frame(self) -> np.ndarray:
        packed, start = self.socket.receive_bytes(), struct.calcsize(FRAME_HEADER)
        kind, self.steps, self.last_action = struct.unpack(FRAME_HEADER, packed[:start])
        assert kind == FRAME_MESSAGE
        return np.frombuffer(packed[start:], np.uint8).reshape(self.world["height"], self.world["width"], 3)

    def start_on(self, picture: bytes) -> np.ndarray:
        """Send a picture and return the first frame of its episode."""
        self.socket.send_bytes(picture)
        said = self.socket.receive_json()
        assert said["kind"] == "picture"
        self.fitting = said["message"]
        return self.frame()

    def file(self, kind: str) -> bytes:
        self.socket.send_text(json.dumps({"do": "save", "as": kind}))
        packed = self.socket.receive_bytes()
        assert packed[0] == FILE_MESSAGE
        return bytes(packed[1:])

    def complaint(self, message: str | bytes) -> str:
        """Send a message and return the error that answers it."""
        (self.socket.send_bytes if isinstance(message, bytes) else self.socket.send_text)(message)
        said = self.socket.receive_json()
        assert said["kind"] == "error"
        return str(said["message"])


def png(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def test_an_episode_is_played_saved_and_replayed(
    open_page: Callable[..., TestClient], setup: PlaySetup, tmp_path: Path
) -> None:
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        assert person.world["names"] == [str(number) for number in range(8)]
        frames = [person.ask(do="start"), *(person.ask(do="step", action=action) for action in (3, 3, 5, 1))]
        assert not np.array_equal(frames[0], frames[-1])
        assert person.steps == 4
        assert np.array_equal(person.ask(do="undo"), frames[3])
        assert np.array_equal(person.ask(do="step", action=1), frames[4])
        written = person.file("json").decode()
        for kind in ("gif", "mp4"):
            (tmp_path / f"play.{kind}").write_bytes(person.file(kind))
        assert np.array_equal(read_video(tmp_path / "play.mp4"), np.stack(frames))
        assert len(read_video(tmp_path / "play.gif")) == 5  # of 256 colours a frame
        socket.send_text(json.dumps({"do": "replay", "trajectory": written}))
        assert socket.receive_json() == {"kind": "replay", "actions": [3, 3, 5, 1]}
        again = [person.frame(), *(person.ask(do="step", action=action) for action in (3, 3, 5, 1))]
        assert np.array_equal(np.stack(again), np.stack(frames))
        assert np.array_equal(person.ask(do="restart"), frames[0])
    assert np.array_equal(replay(setup.session.world, setup.checkpoint, parse_trajectory(written)), np.stack(frames))


def test_a_picture_starts_an_episode(open_page: Callable[..., TestClient]) -> None:
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        first = person.start_on(png(300, 200))
        assert "100 columns cut off" in person.fitting
        assert not np.array_equal(person.start_on(png(300, 200, (0, 255, 0))), first)
        socket.send_text(json.dumps({"do": "fit", "as": "pad"}))
        assert socket.receive_json() == {"kind": "fit", "fit": "pad"}
        person.start_on(png(300, 200))
        assert "100 rows added" in person.fitting
        assert "fit must be one of ('crop', 'pad'), got None" in person.complaint('{"do": "fit"}')


def test_the_page_opens_on_the_first_start_clip_unless_it_has_a_prompt(setup: PlaySetup) -> None:
    prompt = setup.session.fit_prompt(setup.session.world.start_clips[1])
    for given, opening in ((None, 0), (prompt, None)):
        assert describe_world(setup._replace(prompt=given))["opening"] == opening


def test_a_start_clip_is_chosen(open_page: Callable[..., TestClient], setup: PlaySetup) -> None:
    page, starts = open_page(), setup.session.world.start_clips
    with page.websocket_connect(SOCKET) as socket:
        person = Person(socket)
        person.ask(do="start", number=1)
        trajectory = parse_trajectory(person.file("json").decode())
        assert np.array_equal(trajectory.prompt, starts[1])
        assert "number must be in" in person.complaint('{"do": "start", "number": 1000}')
        assert "number must be in" in person.complaint('{"do": "start", "number": -1}')
    shown = page.get("/starts/1.png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.content))), starts[1, -1])
    assert page.get("/starts/1000.png").status_code == 404


def test_a_policy_drives(open_page: Callable[..., TestClient]) -> None:
    seen: list[tuple[int, list[int]]] = []

    def drive(frames: np.ndarray, latent_actions: np.ndarray) -> int:
        seen.append((len(frames), latent_actions.tolist()))
        return 9 if len(seen) == 4 else len(seen)

    with open_page(driver=drive).websocket_connect(SOCKET) as socket:
        person = Person(socket)
        assert person.world["has_policy"]
        person.ask(do="start")
        assert person.last_action == NO_ACTION
        person.ask(do="step", action=5)
        for _ in range(3):
            person.ask(do="drive")
        assert person.last_action == 3
        assert seen == [(2, [5]), (3, [5, 1]), (4, [5, 1, 2])]
        assert "latent actions must be in [0, 8), got 9" in person.complaint('{"do": "drive"}')
        for _ in range(20):
            person.ask(do="step", action=0)
        person.ask(do="drive")
        assert seen[-1] == (16, [0] * 15)
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        assert not person.world["has_policy"]
        assert "no policy is loaded" in person.complaint('{"do": "drive"}')


def test_visitors_do_not_affect_each_other(open_page: Callable[..., TestClient]) -> None:
    page = open_page()
    with page.websocket_connect(SOCKET) as one, page.websocket_connect(SOCKET) as two:
        first, second = Person(one), Person(two)
        first.ask(do="start")
        trajectory = first.file("json").decode()
        alone = [first.ask(do="step", action=action) for action in (1, 2, 3)]
        one.send_text(json.dumps({"do": "replay", "trajectory": trajectory}))
        one.receive_json()
        first.frame()
        second.ask(do="start")
        between = []
        for action in (1, 2, 3):
            two.send_text(json.dumps({"do": "step", "action": 7 - action}))
            between.append(first.ask(do="step", action=action))
            second.frame()
        assert np.array_equal(np.stack(between), np.stack(alone))


def test_simultaneous_requests_share_a_pass_and_get_the_frames_of_playing_alone(
    setup: PlaySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = setup.session.world

    def start(number: int) -> Visitor:
        visitor = setup.new_visitor(undo_steps=2)
        visitor.start(Start(world.start_clips[number], number, number))
        return visitor

    passes: list[int] = []
    step = world.step
    monkeypatch.setattr(world, "step", lambda state, actions: (passes.append(len(actions)), step(state, actions))[1])
    together, alone = [start(number) for number in range(3)], [start(number) for number in range(3)]

    async def play() -> None:
        scheduler = BatchScheduler(setup.session.sampling)
        for action in (4, 2):
            await asyncio.gather(*(scheduler.step(visitor, action) for visitor in together))
        scheduler.close()

    asyncio.run(play())
    assert passes == [3, 3]
    for visitor, twin in zip(together, alone, strict=True):
        twin.step(4)
        twin.step(2)
        difference = np.abs(visitor.frames.astype(int) - twin.frames.astype(int))
        assert difference.max() <= 1  # rounding of the last bit, without kernels
        assert np.array_equal(visitor.undo(), visitor.frames[1])


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("", "message must be JSON or a picture"),
        ("[" * 100_000, "message must be JSON or a picture"),
        ("[]", "message must have a do of"),
        ('{"do": "fly"}', "message must have a do of"),
        ('{"do": ["step"]}', "message must have a do of"),
        ('{"do": "step", "action": 1}', "reset() must be called"),
        ('{"do": "step", "action": "1"}', "action must be an integer, got '1'"),
        ('{"do": "undo"}', "reset() must be called"),
        ('{"do": "save", "as": "exe"}', "as must be gif, mp4 or json, got 'exe'"),
        ('{"do": "replay"}', "trajectory must be a text, got None"),
        ('{"do": "replay", "trajectory": "{}"}', "trajectory must be an object of format 1"),
        (b"", "picture must be a picture"),
        (b"GIF89a nothing", "picture must be a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "picture must be a picture"),
    ],
)
def test_invalid_messages_are_answered_and_the_visitor_plays_on(
    open_page: Callable[..., TestClient], message: str | bytes, complaint: str
) -> None:
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        assert complaint in person.complaint(message)
        person.ask(do="start")
        assert "latent actions must be in [0, 8), got 8" in person.complaint('{"do": "step", "action": 8}')
        person.ask(do="step", action=0)


def bomb(side: int) -> bytes:
    """Return a PNG of a few bytes whose header promises ``side`` squared pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_too_large_messages_and_episodes_are_refused(open_page: Callable[..., TestClient]) -> None:
    page = open_page(message_bytes=100_000, frames=2)
    with page.websocket_connect(SOCKET) as socket:
        person = Person(socket)
        assert "8000 x 8000 pixels are more than" in person.complaint(bomb(8_000))
        assert "message must be at most 100000 bytes, got 100001" in person.complaint(bytes(100_001))
        person.ask(do="start")
        trajectory = json.loads(person.file("json"))
        person.ask(do="step", action=0)
        person.ask(do="step", action=0)
        assert "at most 2 steps long" in person.complaint('{"do": "step", "action": 0}')
        for field, value in (("maskgit_steps", 1_000), ("latent_actions", [0, 0, 0])):
            hostile = json.dumps({"do": "replay", "trajectory": json.dumps({**trajectory, field: value})})
            assert f"trajectory {field} must be at most" in person.complaint(hostile)


def test_a_recording_of_another_world_is_refused_and_the_visitor_plays_on(
    open_page: Callable[..., TestClient], setup: PlaySetup
) -> None:
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        person.ask(do="start")
        trajectory = json.loads(person.file("json"))
        other = json.dumps({**trajectory, "checkpoint": "abc", "checkpoint_name": "forest"})
        complaint = person.complaint(json.dumps({"do": "replay", "trajectory": other}))
        digest, name = setup.checkpoint
        wanted = "trajectory needs the checkpoint 'forest' of digest 'abc'"
        assert complaint == f"{wanted}, got the checkpoint {name!r} of digest {digest!r}"
        person.ask(do="step", action=0)
        moved = json.dumps({**trajectory, "checkpoint_name": "elsewhere"})  # the same weights in another folder
        socket.send_text(json.dumps({"do": "replay", "trajectory": moved}))
        assert socket.receive_json()["kind"] == "replay"


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


def test_the_page_and_its_files_are_served(open_page: Callable[..., TestClient]) -> None:
    page = open_page()
    assert "<canvas" in page.get("/").text
    for name in ("play.js", "keys.js", "sketch.js", "play.css"):
        assert page.get(f"/static/{name}").status_code == 200
    assert page.get("/static/../server.py").status_code == 404
    assert page.get("/world").json()["names"] == [str(number) for number in range(8)]


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


@pytest.mark.parametrize("command", ["start", "fit", "step", "undo", "save", "drive", "fly"])
def test_only_a_replay_may_be_long(open_page: Callable[..., TestClient], setup: PlaySetup, command: str) -> None:
    most = Limits().replay_bytes(setup.session.world.config)
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        person.ask(do="start")
        for filling in ("x" * 1_000, [{}] * 10_000, {"a": [[]] * 9_000}):
            text = json.dumps({"do": command, "number": 1, "as": "pad", "action": 1, "filling": filling})
            assert person.complaint(text) == f"message must be at most 1000 bytes, got {len(text)}"
        for text in ("[" + "{}," * most + "{}]", "9" * (most + 1), "[" * (most + 1)):
            assert person.complaint(text) == f"message must be at most {most} bytes, got {len(text)}"


def test_the_longest_episode_of_noise_can_be_replayed(open_page: Callable[..., TestClient], setup: PlaySetup) -> None:
    """So the size of a replay's message bounds no honest one."""
    config, noise = setup.session.world.config, np.random.default_rng(0)
    with open_page().websocket_connect(SOCKET) as socket:
        person = Person(socket)
        person.ask(do="start")
        trajectory = parse_trajectory(person.file("json").decode())
        prompt = noise.integers(0, 256, (4, config.height, config.width, 3)).astype(np.uint8)
        longest = replace(trajectory, prompt=prompt, latent_actions=(7,) * Limits().frames, checkpoint_name="x" * 255)
        socket.send_text(json.dumps({"do": "replay", "trajectory": format_trajectory(longest)}))
        assert socket.receive_json() == {"kind": "replay", "actions": [7] * Limits().frames}


@pytest.mark.parametrize(
    ("host", "port", "token", "complaint"),
    [("0.0.0.0", 8000, None, "token must be given"), ("127.0.0.1", -1, None, "port must be in")],
)
def test_an_invalid_address_is_refused(host: str, port: int, token: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        require_address(host, port, token)
