"""A real server in a thread, on a free port."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from genie_gym.play.door import configure_server
from genie_gym.play.limits import Limits

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
