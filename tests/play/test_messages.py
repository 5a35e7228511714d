"""Messages of visitors: invalid, foreign and too long ones are refused, and the visitor plays on."""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from genie_gym.play.limits import Limits
from genie_gym.play.setup import PlaySetup
from genie_gym.play.trajectory import format_trajectory, parse_trajectory
from tests.play.person import SOCKET, Person


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
