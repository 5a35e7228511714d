"""A small world to play, and its page: in memory, or on a real server in a thread, on a free port."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from genie_gym.play.config import PlayConfig
from genie_gym.play.door import configure_server
from genie_gym.play.limits import Limits
from genie_gym.play.server import build_app
from genie_gym.play.setup import PlaySetup, prepare_play
from tests.play.person import HERE

Serve = Callable[..., contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def serve_app(app: Any, limits: Limits) -> Iterator[str]:
    """Serve ``app`` with the settings of ``genie-gym play`` and yield its host and port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(configure_server(app, limits, "127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve() -> Serve:
    return serve_app


@pytest.fixture(scope="module")
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
