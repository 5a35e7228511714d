"""A player at a WebSocket: one frame for every action.

A player's messages are JSON with a ``do``, or the bytes of a picture to walk in. Each is answered before the next is
read, so nobody can pile up work: a frame as bytes, or JSON with a ``kind``.

| do | |
|---|---|
| ``start`` | ``number``: a game on that one of the world's start frames; where not given, on one that is drawn |
| ``fit`` | ``as``: crop or pad, what is done to pictures of another shape from now on |
| ``step`` | ``action``: one frame on |
| ``drive`` | one frame on, as the server's policy decides |
| ``undo``, ``restart`` | a frame back; the same game from its start |
| ``save`` | ``as``: gif, mp4 or json, what was played as a file |
| ``replay`` | ``trajectory``: such a JSON; the game is opened on it and its actions are told |

Frames are the byte 0, four of the number of steps (little-endian), two of the latent action that led there (-1 for
none) and the pixels' red, green and blue, row by row; files are the byte 1 and the file. A picture and a replay are
answered by JSON, and then the game's first frame.
"""

import asyncio
import contextlib
import json
import reprlib
import struct
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from genie_gym.data.fitting import Fit, require_fit
from genie_gym.data.video import write_video
from genie_gym.envs.prompts import FittedPrompt, fit_prompt
from genie_gym.envs.rendering import FRAMES_PER_SECOND
from genie_gym.play.drivers import SEEN
from genie_gym.play.opening import Opened
from genie_gym.play.pictures import open_picture
from genie_gym.play.table import Table
from genie_gym.play.trajectory import parse_trajectory, tell_trajectory

FRAME, FILE = 0, 1
"""First bytes of what is sent."""
HEADER = "<BIh"
"""Of a frame: ``FRAME``, steps, latent action."""
NO_ACTION = -1
POLICY_VIOLATION, TOO_BUSY = 1008, 1013
"""WebSocket close codes."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What players may ask for."""

    players: int = 16
    """At once."""
    message_bytes: int = 8 * 2**20
    """Of one message, pictures too."""
    frames: int = 10_000
    """Of one game; 12 kB each at 64 x 64."""
    undone: int = 8
    """Frames that can be taken back; 14 MB each in the shipped world."""
    maskgit_steps: int = 64
    """Passes a frame of a replayed trajectory."""
    idle_seconds: float = 300.0
    """Without a message, after which a player is sent away."""
    send_seconds: float = 10.0
    """For what a player does not read."""


LIMITS = Limits()
"""Where no others are given."""


def describe(opened: Opened) -> dict[str, Any]:
    """What the page has to know."""
    config = opened.world.config
    return {
        "kind": "world",
        "height": config.height,
        "width": config.width,
        "names": list(opened.names),
        "frames_per_second": FRAMES_PER_SECOND,
        "starts": len(opened.world.start_frames),
        "has_policy": opened.driver is not None,
    }


class Player:
    """One connection, one game."""

    def __init__(self, websocket: WebSocket, opened: Opened, table: Table, limits: Limits) -> None:
        self._websocket, self._opened, self._table, self._limits = websocket, opened, table, limits
        self._seat = opened.take_seat(limits.undone)
        self._fit: Fit = "crop"
        self._orders: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "start": self._start,
            "fit": self._set_fit,
            "step": self._step,
            "drive": self._drive,
            "undo": self._undo,
            "restart": self._restart,
            "save": self._save,
            "replay": self._replay,
        }

    async def play(self) -> None:
        """Answer messages until the player leaves, is silent, or does not read."""
        await self._tell(describe(self._opened))
        try:
            while True:
                message = await asyncio.wait_for(self._websocket.receive(), self._limits.idle_seconds)
                if message["type"] != "websocket.receive":
                    return
                try:
                    await self._obey(message.get("text"), message.get("bytes"))
                except ValueError as error:
                    await self._tell({"kind": "error", "message": str(error)})
        except TimeoutError:
            why = "too long without a message, or without being read"
            with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):  # that cannot hear it, either
                await asyncio.wait_for(self._websocket.close(POLICY_VIOLATION, why), self._limits.send_seconds)
        except WebSocketDisconnect:
            return

    async def _obey(self, text: str | None, packed: bytes | None) -> None:
        size, most = len(text or packed or ""), self._limits.message_bytes
        if size > most:
            raise ValueError(f"message must be at most {most} bytes, got {size}")
        if packed is not None:
            await self._open_picture(packed)
            return
        try:
            order: Any = json.loads(text or "")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"message must be JSON or a picture: {error}") from error
        known = isinstance(order, dict) and isinstance(order.get("do"), str) and order["do"] in self._orders
        if not known:
            raise ValueError(f"message must have a do of {sorted(self._orders)}, got {reprlib.repr(order)}")
        await self._orders[order["do"]](order)

    async def _start(self, order: dict[str, Any]) -> None:
        prompt, seed = self._opened.start()
        if (number := order.get("number")) is not None:
            starts = self._opened.world.start_frames
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(starts):
                raise ValueError(f"number must be in [0, {len(starts)}), got {reprlib.repr(number)}")
            prompt = starts[number][None]
        await self._open(prompt, seed)

    async def _set_fit(self, order: dict[str, Any]) -> None:
        self._fit = require_fit(order.get("as"))
        await self._tell({"kind": "fit", "fit": self._fit})

    async def _open_picture(self, packed: bytes) -> None:
        config = self._opened.world.config
        frames, fitting = await asyncio.to_thread(_read_prompt, packed, config.height, config.width, self._fit)
        await self._tell({"kind": "picture", "message": f"The picture: {fitting}."})
        _, seed = self._opened.start()
        await self._open(frames, seed)

    async def _open(self, prompt: np.ndarray, seed: int) -> None:
        self._seat = self._opened.take_seat(self._limits.undone)
        await self._table.call(self._seat.open, prompt, seed)
        await self._show()

    async def _step(self, order: dict[str, Any]) -> None:
        action = order.get("action")
        if not isinstance(action, int) or isinstance(action, bool):
            raise ValueError(f"action must be a whole number, got {reprlib.repr(action)}")
        await self._go_on(action)

    async def _drive(self, order: dict[str, Any]) -> None:
        if self._opened.driver is None:
            raise ValueError("no policy drives here: genie-gym play --policy FILE.py:FACTORY(ARGUMENTS) brings one")
        seen = self._seat.look_back(SEEN)
        await self._go_on(int(await self._table.call(self._opened.driver, *seen)))

    async def _go_on(self, action: int) -> None:
        if self._seat.steps >= self._limits.frames:
            raise ValueError(f"a game must be at most {self._limits.frames} frames long: start another")
        await self._table.step(self._seat, action)
        await self._show()

    async def _undo(self, order: dict[str, Any]) -> None:
        await self._table.call(self._seat.undo)
        await self._show()

    async def _restart(self, order: dict[str, Any]) -> None:
        await self._table.call(self._seat.restart)
        await self._show()

    async def _save(self, order: dict[str, Any]) -> None:
        kind = order.get("as")
        if kind not in ("gif", "mp4", "json"):
            raise ValueError(f"as must be gif, mp4 or json, got {reprlib.repr(kind)}")
        if kind == "json":
            packed = tell_trajectory(self._seat.trajectory).encode()
        else:
            packed = await asyncio.to_thread(_film, self._seat.frames, kind)
        await self._send(bytes([FILE]) + packed)

    async def _replay(self, order: dict[str, Any]) -> None:
        text = order.get("trajectory")
        if not isinstance(text, str):
            raise ValueError(f"trajectory must be a text, got {reprlib.repr(text)}")
        trajectory = await asyncio.to_thread(parse_trajectory, text)
        if trajectory.checkpoint != self._opened.digest:
            raise ValueError(
                f"trajectory must be of this world, {self._opened.digest!r}, got {trajectory.checkpoint!r}"
            )
        for field, value, most in (
            ("maskgit_steps", trajectory.maskgit_steps, self._limits.maskgit_steps),
            ("latent_actions", len(trajectory.latent_actions), self._limits.frames),
        ):
            if value > most:
                raise ValueError(f"trajectory {field} must be at most {most}, got {value}")
        seat = self._opened._replace(
            maskgit_steps=trajectory.maskgit_steps, temperature=trajectory.temperature
        ).take_seat(self._limits.undone)
        await self._table.call(seat.open, trajectory.prompt, trajectory.world_seed)
        self._seat = seat
        await self._tell({"kind": "replay", "actions": list(trajectory.latent_actions)})
        await self._show()

    async def _show(self) -> None:
        last = self._seat.last_action
        header = struct.pack(HEADER, FRAME, self._seat.steps, NO_ACTION if last is None else last)
        await self._send(header + self._seat.frame.tobytes())

    async def _send(self, packed: bytes) -> None:
        await asyncio.wait_for(self._websocket.send_bytes(packed), self._limits.send_seconds)

    async def _tell(self, values: dict[str, Any]) -> None:
        await asyncio.wait_for(self._websocket.send_json(values), self._limits.send_seconds)


def _read_prompt(packed: bytes, height: int, width: int, fit: Fit) -> FittedPrompt:
    return fit_prompt(open_picture(packed, "picture"), height, width, fit=fit)


def _film(frames: np.ndarray, kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"play.{kind}"
        write_video(path, frames, fps=FRAMES_PER_SECOND)
        return path.read_bytes()
