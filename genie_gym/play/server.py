"""A world behind a page (needs the extra ``play``): one WebSocket a player, one frame for every action.

A player's messages are JSON with a ``do``, or the bytes of a picture to walk in. Each is answered before the next is
read, so nobody can pile up work: a frame as bytes, or JSON with a ``kind``.

| do | |
|---|---|
| ``start`` | a game on one of the world's start frames |
| ``step`` | ``action``: one frame on |
| ``undo``, ``restart`` | a frame back; the same game from its start |
| ``save`` | ``as``: gif, mp4 or json, what was played as a file |
| ``replay`` | ``trajectory``: such a JSON; the game is opened on it and its actions are told |

Frames are the byte 0, four of the number of steps (little-endian) and the pixels' red, green and blue, row by row;
files are the byte 1 and the file.
"""

import asyncio
import contextlib
import hmac
import json
import reprlib
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from genie_gym.data.video import write_video
from genie_gym.envs.prompts import load_prompt
from genie_gym.envs.rendering import FRAMES_PER_SECOND
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.pictures import open_picture
from genie_gym.play.seat import Seat, Start
from genie_gym.play.table import Table
from genie_gym.play.trajectory import parse_trajectory, tell_trajectory

STATIC = Path(__file__).parent / "static"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
FRAME, FILE = 0, 1
"""First bytes of what is sent."""
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


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is played."""

    world: GenieWorldModel
    digest: str
    """Of its checkpoint."""
    start: Start
    """Where games begin that bring no picture."""
    maskgit_steps: int | None = None
    """Passes a frame; the world's where not given."""
    temperature: float | None = None
    """Of the sampling; the world's where not given."""

    @property
    def about(self) -> dict[str, Any]:
        """What the page has to know."""
        config = self.world.config
        names = config.action_names or tuple(map(str, range(config.num_latent_actions)))
        return {
            "kind": "world",
            "height": config.height,
            "width": config.width,
            "names": list(names),
            "frames_per_second": FRAMES_PER_SECOND,
        }


def build_app(stage: Stage, limits: Limits = Limits(), token: str | None = None) -> Starlette:
    """The page and its sockets.

    Args:
        stage: What is played.
        limits: What players may ask for.
        token: Those who do not know it are refused; without one, all who do not come from this machine.
    """
    table, players = Table(limits.players), set[WebSocket]()

    async def enter(websocket: WebSocket) -> None:
        if not (_comes_from_here(websocket) and _knows(token, websocket.query_params.get("token"))):
            await websocket.close(POLICY_VIOLATION)
            return
        await websocket.accept()
        if len(players) >= limits.players:
            await websocket.send_json({"kind": "error", "message": f"{limits.players} play already: try again later"})
            await websocket.close(TOO_BUSY)
            return
        players.add(websocket)
        try:
            await Player(websocket, stage, table, limits).play()
        finally:
            players.discard(websocket)

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    async def about(request: Request) -> Response:
        return JSONResponse(stage.about, headers=HEADERS)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        table.close()

    hosts = ["*"] if token is not None else list(LOOPBACK)
    return Starlette(
        routes=[
            Route("/", page),
            Route("/world", about),
            WebSocketRoute("/play", enter),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lifespan,
    )


class Player:
    """One connection, one game."""

    def __init__(self, websocket: WebSocket, stage: Stage, table: Table, limits: Limits) -> None:
        self._websocket, self._stage, self._table, self._limits = websocket, stage, table, limits
        self._seat = self._take_seat(stage.maskgit_steps, stage.temperature)
        self._orders: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "start": self._start,
            "step": self._step,
            "undo": self._undo,
            "restart": self._restart,
            "save": self._save,
            "replay": self._replay,
        }

    async def play(self) -> None:
        """Answer messages until the player leaves, is silent, or does not read."""
        await self._tell(self._stage.about)
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
        self._seat = self._take_seat(self._stage.maskgit_steps, self._stage.temperature)
        await self._table.call(self._seat.open, *self._stage.start())
        await self._show()

    async def _open_picture(self, packed: bytes) -> None:
        config = self._stage.world.config
        frames = await asyncio.to_thread(_read_prompt, packed, config.height, config.width)
        self._seat = self._take_seat(self._stage.maskgit_steps, self._stage.temperature)
        _, seed = self._stage.start()
        await self._table.call(self._seat.open, frames, seed)
        await self._show()

    async def _step(self, order: dict[str, Any]) -> None:
        action = order.get("action")
        if not isinstance(action, int) or isinstance(action, bool):
            raise ValueError(f"action must be a whole number, got {reprlib.repr(action)}")
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
        if trajectory.checkpoint != self._stage.digest:
            raise ValueError(f"trajectory must be of this world, {self._stage.digest!r}, got {trajectory.checkpoint!r}")
        for field, value, most in (
            ("maskgit_steps", trajectory.maskgit_steps, self._limits.maskgit_steps),
            ("latent_actions", len(trajectory.latent_actions), self._limits.frames),
        ):
            if value > most:
                raise ValueError(f"trajectory {field} must be at most {most}, got {value}")
        seat = self._take_seat(trajectory.maskgit_steps, trajectory.temperature)
        await self._table.call(seat.open, trajectory.prompt, trajectory.world_seed)
        self._seat = seat
        await self._tell({"kind": "replay", "actions": list(trajectory.latent_actions)})
        await self._show()

    def _take_seat(self, maskgit_steps: int | None, temperature: float | None) -> Seat:
        stage = self._stage
        return Seat(stage.world, stage.digest, maskgit_steps, temperature, self._limits.undone)

    async def _show(self) -> None:
        await self._send(struct.pack("<BI", FRAME, self._seat.steps) + self._seat.frame.tobytes())

    async def _send(self, packed: bytes) -> None:
        await asyncio.wait_for(self._websocket.send_bytes(packed), self._limits.send_seconds)

    async def _tell(self, values: dict[str, Any]) -> None:
        await asyncio.wait_for(self._websocket.send_json(values), self._limits.send_seconds)


def _comes_from_here(websocket: WebSocket) -> bool:
    """Whether the page that opens the socket, if a page does, is this server's own."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == websocket.headers.get("host")


def _knows(token: str | None, said: str | None) -> bool:
    return token is None or hmac.compare_digest(token.encode(), (said or "").encode())


def _read_prompt(packed: bytes, height: int, width: int) -> np.ndarray:
    return load_prompt(open_picture(packed, "picture"), height, width)


def _film(frames: np.ndarray, kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"play.{kind}"
        write_video(path, frames, fps=FRAMES_PER_SECOND)
        return path.read_bytes()
