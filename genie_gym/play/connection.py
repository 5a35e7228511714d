"""One visitor's WebSocket connection: one frame for every latent action.

A message of the page is a command (JSON with a ``do``) or the bytes of a picture to start from. Each is answered before
the next is read, and a visitor with more than eight unanswered ones is disconnected, so nobody can pile up work. An
answer is bytes (a frame or a file), or JSON with a ``kind``.

A server with a token first sends JSON of the kind ``token``; the visitor answers ``{"do": "enter", "token": "..."}``.
Then, or at once without a token, the server sends the description of the world.

| do | |
|---|---|
| ``start`` | start an episode on start clip ``number``, or on the next start drawn if there is no ``number`` |
| ``fit`` | ``as``: crop or pad pictures of another aspect ratio from now on |
| ``step`` | ``action``: take a latent action |
| ``drive`` | take the latent action that the server's policy chooses |
| ``undo``, ``restart`` | take one step back; start the same episode again |
| ``save`` | ``as``: send the episode as gif, mp4 or json |
| ``replay`` | ``trajectory``: start the episode of such a JSON and send its latent actions |

A frame is the byte 0, the number of steps (4 bytes, little-endian), the latent action that led there (2 bytes, -1 for
none) and the pixels' red, green and blue, row by row. A file is the byte 1 and its content. A picture and a replay are
answered by JSON and then by the episode's first frame.
"""

import asyncio
import contextlib
import json
import reprlib
import struct
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from genie_gym.checks import is_integer, require
from genie_gym.data.fitting import Fit, require_fit
from genie_gym.data.video import write_video
from genie_gym.envs.keys import SETTLING_STEPS
from genie_gym.envs.prompts import FittedPrompt
from genie_gym.envs.session import Start
from genie_gym.play.batch_scheduler import BatchScheduler
from genie_gym.play.drivers import DRIVER_FRAMES
from genie_gym.play.limits import POLICY_VIOLATION, Limits
from genie_gym.play.pictures import open_picture
from genie_gym.play.setup import PlaySetup
from genie_gym.play.trajectory import format_trajectory, parse_trajectory
from genie_gym.play.visitor import Visitor

FRAME_MESSAGE, FILE_MESSAGE = 0, 1
"""First byte of a binary answer."""
FRAME_HEADER = "<BIh"
"""Struct format of a frame's header: ``FRAME_MESSAGE``, steps, latent action."""
NO_ACTION = -1
_MOST_COMPLAINT = 1_000
"""Largest number of letters of an error."""


def describe_world(setup: PlaySetup) -> dict[str, Any]:
    """Return the JSON-able description of the world that the page reads first."""
    config = setup.session.world.config
    return {
        "kind": "world",
        "checkpoint": setup.checkpoint.name,
        "height": config.height,
        "width": config.width,
        "names": setup.session.action_meanings,
        "frames_per_second": setup.session.fps,
        "starts": len(setup.session.world.start_clips),
        "opening": 0 if setup.prompt is None else None,
        "has_policy": setup.driver is not None,
        "settling_steps": SETTLING_STEPS if setup.wait else None,
    }


class Connection:
    """One WebSocket and its visitor.

    Args:
        websocket: Accepted WebSocket of the visitor's page.
        setup: World and settings shared by all visitors.
        scheduler: Scheduler of the world's passes, shared by all visitors.
        limits: Upper bounds on what the visitor may ask for.
    """

    def __init__(self, websocket: WebSocket, setup: PlaySetup, scheduler: BatchScheduler, limits: Limits) -> None:
        self._websocket, self._setup, self._scheduler, self._limits = websocket, setup, scheduler, limits
        self._visitor = setup.new_visitor(limits.undo_steps)
        self._fit: Fit = "crop"

    async def serve(self) -> None:
        """Answer messages until the visitor leaves, is idle for too long, or does not read the answers."""
        await self._send_json(describe_world(self._setup))
        try:
            while True:
                with anyio.fail_after(self._limits.idle_seconds):
                    message = await self._websocket.receive()
                if message["type"] != "websocket.receive":
                    return
                steps, pause = self._visitor.steps, self._limits.pause_seconds
                try:
                    await self._answer(message.get("text"), message.get("bytes"))
                except ValueError as error:
                    pause = self._limits.error_pause_seconds
                    await self._send_json({"kind": "error", "message": str(error)[:_MOST_COMPLAINT]})
                if self._visitor.steps != steps + 1:  # a step waits for its turn in the world anyway
                    await asyncio.sleep(pause)
        except TimeoutError:
            why = "too long without a message, or without reading an answer"
            with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                with anyio.fail_after(self._limits.send_seconds):
                    await self._websocket.close(POLICY_VIOLATION, why)
        except WebSocketDisconnect:
            return

    async def _answer(self, text: str | None, packed: bytes | None) -> None:
        limits = self._limits
        if packed is not None:
            _require_size(len(packed), limits.message_bytes)
            await self._start_on_picture(packed)
            return
        text = text or ""
        _require_size(len(text), limits.replay_bytes(self._setup.session.world.config))
        is_long = len(text) > limits.command_bytes
        command = await self._scheduler.beside_world.call(_parse, text) if is_long else _parse(text)
        if is_long and not (isinstance(command, dict) and command.get("do") == "replay"):
            _require_size(len(text), limits.command_bytes)
        known = isinstance(command, dict) and isinstance(command.get("do"), str) and command["do"] in _HANDLERS
        if not known:
            raise ValueError(f"message must have a do of {sorted(_HANDLERS)}, got {reprlib.repr(command)}")
        await _HANDLERS[command["do"]](self, command)

    async def _start(self, command: dict[str, Any]) -> None:
        start = next(self._setup.starts)
        if (number := command.get("number")) is not None:
            clips = self._setup.session.world.start_clips
            require(is_integer(number, 0, len(clips)), "number", number, f"in [0, {len(clips)})")
            start = start._replace(prompt=clips[number], prompt_index=number)
        await self._start_visitor(self._setup.new_visitor(self._limits.undo_steps), start)

    async def _set_fit(self, command: dict[str, Any]) -> None:
        self._fit = require_fit(command.get("as"))
        await self._send_json({"kind": "fit", "fit": self._fit})

    async def _start_on_picture(self, packed: bytes) -> None:
        try:
            prompt = await self._scheduler.beside_world.call(self._fit_picture, packed)
        finally:
            self._scheduler.tidy()
        await self._send_json({"kind": "picture", "message": f"The picture: {prompt.fitting}."})
        start = next(self._setup.starts)._replace(prompt=prompt.frames, prompt_index=-1)
        await self._start_visitor(self._setup.new_visitor(self._limits.undo_steps), start)

    def _fit_picture(self, packed: bytes) -> FittedPrompt:
        return self._setup.session.fit_prompt(open_picture(packed, "picture"), "picture", self._fit)

    async def _start_visitor(self, visitor: Visitor, start: Start, replayed: Sequence[int] | None = None) -> None:
        await self._scheduler.in_world.call(visitor.start, start)
        self._visitor = visitor
        if replayed is not None:
            await self._send_json({"kind": "replay", "actions": replayed})
        await self._send_frame()

    async def _step(self, command: dict[str, Any]) -> None:
        action: Any = command.get("action")
        require(is_integer(action), "action", action, "an integer")
        await self._take_action(action)

    async def _drive(self, command: dict[str, Any]) -> None:
        if self._setup.driver is None:
            raise ValueError("no policy is loaded: start the page with --policy FILE.py:FACTORY(ARGUMENTS)")
        seen = self._visitor.look_back(DRIVER_FRAMES)
        await self._take_action(await self._scheduler.choose(self._setup.driver, *seen))

    async def _take_action(self, action: int) -> None:
        if self._visitor.steps >= self._limits.frames:
            raise ValueError(f"an episode must be at most {self._limits.frames} steps long: start another one")
        await self._scheduler.step(self._visitor, action)
        await self._send_frame()

    async def _undo_or_restart(self, command: dict[str, Any]) -> None:
        await self._scheduler.in_world.call(self._visitor.undo if command["do"] == "undo" else self._visitor.restart)
        await self._send_frame()

    async def _save(self, command: dict[str, Any]) -> None:
        kind: Any = command.get("as")
        require(kind in ("gif", "mp4", "json"), "as", kind, "gif, mp4 or json")
        packed = await self._scheduler.beside_world.call(_encode, self._visitor, kind)
        await self._send_bytes(bytes([FILE_MESSAGE]) + packed)

    async def _replay(self, command: dict[str, Any]) -> None:
        text: Any = command.get("trajectory")
        require(isinstance(text, str), "trajectory", text, "a text")
        playing, config, limits = self._setup.checkpoint, self._setup.session.world.config, self._limits
        trajectory = await self._scheduler.beside_world.call(parse_trajectory, text, playing, config)
        steps, actions = trajectory.maskgit_steps, trajectory.latent_actions
        require(steps <= limits.maskgit_steps, "trajectory maskgit_steps", steps, f"at most {limits.maskgit_steps}")
        require(len(actions) <= limits.frames, "trajectory latent_actions", len(actions), f"at most {limits.frames}")
        visitor = Visitor(
            self._setup.session.world, self._setup.checkpoint, steps, trajectory.temperature, limits.undo_steps
        )
        await self._start_visitor(visitor, Start(trajectory.prompt, -1, trajectory.world_seed), actions)

    async def _send_frame(self) -> None:
        visitor, last = self._visitor, self._visitor.last_action
        header = struct.pack(FRAME_HEADER, FRAME_MESSAGE, visitor.steps, NO_ACTION if last is None else last)
        await self._send_bytes(header + visitor.frame.tobytes())

    async def _send_bytes(self, packed: bytes) -> None:
        # Not by wait_for: until Python 3.12 it keeps an error, and the visitor's cache by its traceback, in a cycle.
        with anyio.fail_after(self._limits.send_seconds):
            await self._websocket.send_bytes(packed)

    async def _send_json(self, values: dict[str, Any]) -> None:
        # In ASCII: no text of a visitor, whatever letters it has, can then fail to be sent.
        with anyio.fail_after(self._limits.send_seconds):
            await self._websocket.send_text(json.dumps(values))


_HANDLERS: dict[str, Callable[[Connection, dict[str, Any]], Awaitable[None]]] = {
    "start": Connection._start,
    "fit": Connection._set_fit,
    "step": Connection._step,
    "drive": Connection._drive,
    "undo": Connection._undo_or_restart,
    "restart": Connection._undo_or_restart,
    "save": Connection._save,
    "replay": Connection._replay,
}


def _require_size(size: int, most: int) -> None:
    require(size <= most, "message", size, f"at most {most} bytes")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"message must be JSON or a picture: {error}") from error


def _encode(visitor: Visitor, kind: str) -> bytes:
    """Return a visitor's episode as the bytes of a file."""
    if kind == "json":
        return format_trajectory(visitor.trajectory).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"play.{kind}"
        write_video(path, visitor.frames, fps=visitor.session.fps)
        return path.read_bytes()
