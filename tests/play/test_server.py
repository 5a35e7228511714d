"""What visitors do on the page: they play, save, replay, choose a start and let a policy drive, beside each other."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from genie_gym.data.video import read_video
from genie_gym.envs.session import Start
from genie_gym.play.batch_scheduler import BatchScheduler
from genie_gym.play.connection import NO_ACTION, describe_world
from genie_gym.play.setup import PlaySetup
from genie_gym.play.trajectory import parse_trajectory
from genie_gym.play.visitor import Visitor, replay
from tests.play.person import SOCKET, Person, png


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


def test_the_page_and_its_files_are_served(open_page: Callable[..., TestClient]) -> None:
    page = open_page()
    assert "<canvas" in page.get("/").text
    for name in ("play.js", "keys.js", "sketch.js", "play.css"):
        assert page.get(f"/static/{name}").status_code == 200
    assert page.get("/static/../server.py").status_code == 404
    assert page.get("/world").json()["names"] == [str(number) for number in range(8)]
