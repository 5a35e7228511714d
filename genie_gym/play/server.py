"""A world behind a page (needs the extra ``play``): its files, and a WebSocket for each player."""

import contextlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from genie_gym.play.config import LOOPBACK
from genie_gym.play.opening import Opened
from genie_gym.play.pictures import pack_picture
from genie_gym.play.player import LIMITS, POLICY_VIOLATION, TOO_BUSY, Limits, Player, describe
from genie_gym.play.table import Table

STATIC = Path(__file__).parent / "static"
HOSTS = [LOOPBACK, "localhost"]
"""What this machine calls itself."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def build_app(opened: Opened, limits: Limits = LIMITS, token: str | None = None) -> Starlette:
    """The page and its sockets.

    Args:
        opened: What is played.
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
            await Player(websocket, opened, table, limits).play()
        finally:
            players.discard(websocket)

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    async def about(request: Request) -> Response:
        return JSONResponse(describe(opened), headers=HEADERS)

    async def start_frame(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(opened.world.start_frames):
            return Response(status_code=404)
        return Response(pack_picture(opened.world.start_frames[number]), media_type="image/png", headers=HEADERS)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        table.close()

    hosts = ["*"] if token is not None else HOSTS
    return Starlette(
        routes=[
            Route("/", page),
            Route("/world", about),
            Route("/starts/{number:int}.png", start_frame),
            WebSocketRoute("/play", enter),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lifespan,
    )


def _comes_from_here(websocket: WebSocket) -> bool:
    """Whether the page that opens the socket, if a page does, is this server's own."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == websocket.headers.get("host")


def _knows(token: str | None, said: str | None) -> bool:
    return token is None or hmac.compare_digest(token.encode(), (said or "").encode())
