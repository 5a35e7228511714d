"""The page on which clips are rated (needs the extra ``play``): one looping clip, five keys, and undo."""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from genie_gym.curation.config import LEAST, MOST
from genie_gym.curation.deck import Deck, animate
from genie_gym.play.config import LOOPBACK
from genie_gym.play.server import PageHeaders, is_same_origin

_STATIC = Path(__file__).parent / "static"
_SECONDS = 2.0
"""Time in which a clip is shown once, whatever its length."""


def build_rating_app(deck: Deck) -> Starlette:
    """Build the application that shows a deck's clips and takes their ratings, from this machine's own page only."""

    def page(request: Request) -> Response:
        return FileResponse(_STATIC / "rate.html")

    def clip(request: Request) -> Response:
        present = deck.present
        if present is None:
            return Response(status_code=404)
        headers = {"Cache-Control": "no-store"}
        return Response(animate(present.frames, _SECONDS), media_type="image/png", headers=headers)

    def state(request: Request) -> Response:
        return JSONResponse(describe_deck(deck))

    async def change(request: Request) -> Response:
        if not is_same_origin(request):
            return Response(status_code=403)
        try:
            order = await request.json()
            _obey(deck, order)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse(describe_deck(deck))

    return Starlette(
        routes=[
            Route("/", page),
            Route("/clip.png", clip),
            Route("/state", state),
            Route("/change", change, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[
            Middleware(PageHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"]),
        ],
    )


def describe_deck(deck: Deck) -> dict[str, Any]:
    """Return ``name``, the present clip's or None, ``rated``, the counts by rating, and ``can_undo``."""
    rated = [each.rating for each in deck.ratings.given]
    present = deck.present
    name = None if present is None else f"{present.path.name}, frames {present.span[0]} to {present.span[1] - 1}"
    counts = {str(rating): rated.count(rating) for rating in range(LEAST, MOST + 1)}
    return {"name": name, "rated": counts, "can_undo": deck.can_undo}


def _obey(deck: Deck, order: Any) -> None:
    """Rate the present clip, if the page that asks shows it, or take the last rating back."""
    if not isinstance(order, dict) or set(order) not in ({"rating", "name"}, {"undo"}):
        raise ValueError(f"order must be a rating of a named clip, or undo, got {order!r}")
    if "undo" in order:
        deck.undo()
    elif order["name"] != describe_deck(deck)["name"]:
        raise ValueError(f"{order['name']} is no longer shown: load the page again")
    else:
        deck.rate(order["rating"])
