"""The page's server (needs the extra ``play``): its files, and a WebSocket for each visitor."""

import contextlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from genie_gym.play.batch_scheduler import BatchScheduler
from genie_gym.play.config import LOOPBACK
from genie_gym.play.connection import DEFAULT_LIMITS, POLICY_VIOLATION, TOO_BUSY, Connection, Limits, describe_world
from genie_gym.play.pictures import pack_picture
from genie_gym.play.setup import PlaySetup

_STATIC = Path(__file__).parent / "static"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every answer: a page loads nothing from elsewhere."""


def build_app(setup: PlaySetup, limits: Limits = DEFAULT_LIMITS, token: str | None = None) -> Starlette:
    """Build the application that serves the page and its WebSockets.

    Args:
        setup: World and settings shared by all visitors.
        limits: Upper bounds on what visitors may ask for.
        token: Token that visitors must give; with None, only requests to this machine's own address are answered.
    """
    scheduler, connected = BatchScheduler(limits.visitors), set[WebSocket]()
    start_clips = setup.session.world.start_clips

    async def enter(websocket: WebSocket) -> None:
        if not (is_same_origin(websocket) and _is_token(token, websocket.query_params.get("token"))):
            await websocket.close(POLICY_VIOLATION)
            return
        await websocket.accept()
        if len(connected) >= limits.visitors:
            message = f"the limit of {limits.visitors} visitors is reached: try again later"
            await websocket.send_json({"kind": "error", "message": message})
            await websocket.close(TOO_BUSY)
            return
        connected.add(websocket)
        try:
            await Connection(websocket, setup, scheduler, limits).serve()
        finally:
            connected.discard(websocket)

    async def page(request: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers=PAGE_HEADERS)

    async def about(request: Request) -> Response:
        return JSONResponse(describe_world(setup), headers=PAGE_HEADERS)

    async def start_picture(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(start_clips):
            return Response(status_code=404)
        return Response(pack_picture(start_clips[number, -1]), media_type="image/png", headers=PAGE_HEADERS)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        scheduler.close()

    hosts = [LOOPBACK, "localhost"] if token is None else ["*"]
    return Starlette(
        routes=[
            Route("/", page),
            Route("/world", about),
            Route("/starts/{number:int}.png", start_picture),
            WebSocketRoute("/play", enter),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lifespan,
    )


def is_same_origin(connection: HTTPConnection) -> bool:
    """Return whether a socket or request comes from this server's own page, or from a program that is no browser."""
    origin = connection.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == connection.headers.get("host")


def _is_token(token: str | None, given: str | None) -> bool:
    return token is None or hmac.compare_digest(token.encode(), (given or "").encode())
