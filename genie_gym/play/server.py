"""The page's server (needs the extra ``play``): its files, and a WebSocket for each visitor."""

import asyncio
import contextlib
import functools
import hmac
import json
from collections.abc import AsyncIterator, Sized
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from genie_gym.play.batch_scheduler import BatchScheduler
from genie_gym.play.config import LOOPBACK
from genie_gym.play.connection import Connection, describe_world
from genie_gym.play.limits import DEFAULT_LIMITS, POLICY_VIOLATION, TOO_BUSY, Limits
from genie_gym.play.pictures import pack_picture
from genie_gym.play.setup import PlaySetup

_STATIC = Path(__file__).parent / "static"
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class PageHeaders:
    """Middleware that adds headers: the page loads nothing from elsewhere, and no other page may embed it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_PAGE_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _InTurn:
    """Middleware that lets one request after the other begin, so that a flood of them leaves time to those who play."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._turns = app, {"http": asyncio.Lock(), "websocket": asyncio.Lock()}
        self._seconds = {"http": limits.request_seconds, "websocket": limits.entry_seconds}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (kind := scope["type"]) in self._turns:
            async with self._turns[kind]:
                await asyncio.sleep(self._seconds[kind])
        await self._app(scope, receive, send)


def build_app(setup: PlaySetup, limits: Limits = DEFAULT_LIMITS, token: str | None = None) -> Starlette:
    """Build the application that serves the page and its WebSockets.

    Args:
        setup: World and settings shared by all visitors.
        limits: Upper bounds on what visitors may ask for.
        token: Token that visitors must give; with None, only requests to this machine's own address are answered.
    """
    scheduler, connected = BatchScheduler(setup.session.sampling, limits.visitors), set[WebSocket]()
    start_clips = setup.session.world.start_clips
    numbers = {str(number): number for number in range(len(start_clips))}

    async def enter(websocket: WebSocket) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            if not await _may_play(websocket, connected, limits, token):
                return
            connected.add(websocket)
            websocket.scope.get("state", {}).get("admit", lambda: None)()  # by ``door``, if it serves this
            try:
                await Connection(websocket, setup, scheduler, limits).serve()
            finally:
                connected.discard(websocket)
                scheduler.tidy()

    async def page(request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    async def about(request: Request) -> Response:
        return JSONResponse(describe_world(setup))

    async def start_picture(request: Request) -> Response:
        number = numbers.get(request.path_params["number"])
        return Response(status_code=404) if number is None else Response(draw_start(number), media_type="image/png")

    @functools.cache
    def draw_start(number: int) -> bytes:
        return pack_picture(start_clips[number, -1])

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        scheduler.close()

    hosts = [LOOPBACK, "localhost"] if token is None else ["*"]
    return Starlette(
        routes=[
            Route("/", page),
            Route("/world", about),
            Route("/starts/{number}.png", start_picture),
            WebSocketRoute("/play", enter),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[
            Middleware(PageHeaders),
            Middleware(_InTurn, limits=limits),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
        ],
        lifespan=lifespan,
    )


def is_same_origin(connection: HTTPConnection) -> bool:
    """Return whether a socket or request comes from this server's own page, or from a program that is no browser."""
    origin = connection.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == connection.headers.get("host")
    except ValueError:  # no address
        return False


async def _may_play(websocket: WebSocket, connected: Sized, limits: Limits, token: str | None) -> bool:
    """Accept a WebSocket and return whether its visitor may play; otherwise say why not and close it.

    ``connected`` are counted at the end: others enter while this one is asked for the token.
    """
    if not is_same_origin(websocket):
        await websocket.close(POLICY_VIOLATION)
        return False
    await websocket.accept()
    if token is not None and not await _gives_token(websocket, token, limits.waiting_seconds):
        await websocket.close(POLICY_VIOLATION, "The token is missing or wrong.")
        return False
    if len(connected) >= limits.visitors:
        message = f"the limit of {limits.visitors} visitors is reached: try again later"
        await websocket.send_json({"kind": "error", "message": message})
        await websocket.close(TOO_BUSY)
        return False
    return True


async def _gives_token(websocket: WebSocket, token: str, seconds: float) -> bool:
    """Ask for the token; it comes in a message, since servers and proxies write addresses into their logs."""
    await websocket.send_text(json.dumps({"kind": "token"}))
    try:
        with anyio.fail_after(seconds):
            message = await websocket.receive()
        given: Any = json.loads((message.get("text") or "")[: len(token) * 6 + 100])
    except (TimeoutError, ValueError, RecursionError):
        return False
    given = given.get("token") if isinstance(given, dict) and given.get("do") == "enter" else None
    return isinstance(given, str) and hmac.compare_digest(_to_bytes(token), _to_bytes(given))


def _to_bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
