"""The door of the page's server: uvicorn, with bounds on what a connection may take before and while it plays.

Uvicorn waits for ever for a header, reads up to 256 KiB at a time and handles all that came before anybody else's turn
comes. Here, connections that do not play end after some seconds; their number is limited, and the oldest gives way. All
are read in small pieces, and one that takes more than a share of the event loop's time waits.
"""

import asyncio
import logging
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from genie_gym.play.limits import POLICY_VIOLATION, Limits

_PIECE = 8 * 1024
"""Number of bytes that are read at a time, in which there may be 1,365 WebSocket frames."""
_SHARE, _SAVED = 0.005, 0.05
"""Share of the processor's time that a connection may take beyond its due, and seconds that it can save up."""
_DUE_PER_BYTE, _DUE_PER_MESSAGE = 2e-9, 1e-4
"""Seconds that handling a byte, and a message, may take without being counted."""
_UNANSWERED = 8
"""Largest number of messages at once that have no answer yet; the page sends one."""
_PATIENCE = 5.0
"""Seconds for which a connection may take more than its share. It is closed then: nobody sees a waiting one end."""
_LINES, _LINES_SECONDS = 60, 60.0
"""Number of lines, or tracebacks, that the log takes in so many seconds."""
_INVALID_DATA = 1007
"""WebSocket close code."""


def configure_server(app: Any, limits: Limits, host: str, port: int) -> uvicorn.Config:
    """Return the settings of a server of the page: errors are logged, and what visitors ask for is not."""
    door = _Door(limits)

    class Web(_Web):
        door_of = door

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Web,
        ws=_Socket,
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,  # frames are small, and compressing them takes time that the world could use
        log_level="warning",  # at level info the address of each WebSocket would be written
        access_log=False,
        proxy_headers=False,
        backlog=32,  # accepted at once, before the door can close any: together they must not use up all files
        timeout_graceful_shutdown=2,
    )
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_QUIET)
    return config


class _Door:
    """The connections that do not play: at most some number, each for some seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: dict[_Transport, asyncio.TimerHandle] = {}  # the oldest first

    def enter(self, transport: "_Transport") -> None:
        """Let a new connection wait, in the place of the oldest one if there are too many."""
        if len(self._waiting) >= self._limits.waiting:
            oldest = next(iter(self._waiting))
            self.leave(oldest)
            oldest.abort()
        later = asyncio.get_running_loop().call_later
        self._waiting[transport] = later(self._limits.waiting_seconds, transport.abort)

    def leave(self, transport: "_Transport") -> None:
        """Forget a connection that has ended, or plays from now on."""
        if (timer := self._waiting.pop(transport, None)) is not None:
            timer.cancel()


class _Transport:
    """A transport that is not read from while its connection has taken more than its share of time."""

    def __init__(self, transport: Any, door: _Door) -> None:
        self._transport, self.door = transport, door
        self._is_wanted = True
        self._rest: asyncio.TimerHandle | None = None
        self._taken, self._since = 0.0, time.monotonic()
        self._too_much_since, self._rested_at = 0.0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        self._is_wanted = False
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._is_wanted = True
        self._apply()

    def charge(self, seconds: float) -> None:
        """Count time that was taken; what is more than the share is waited for."""
        now = time.monotonic()
        self._taken = max(0.0, self._taken - _SHARE * (now - self._since)) + seconds
        self._since = now
        if self._taken > _SAVED and self._rest is None:
            wait = (self._taken - _SAVED) / _SHARE
            if now - self._rested_at > 1.0:
                self._too_much_since = now
            elif now - self._too_much_since > _PATIENCE:
                self._transport.abort()
                return
            self._rested_at = now + wait
            self._rest = asyncio.get_running_loop().call_later(wait, self._end_rest)
            self._apply()

    def _end_rest(self) -> None:
        self._rest = None
        self._apply()

    def _apply(self) -> None:
        if self._is_wanted and self._rest is None:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


class _InPieces(asyncio.BufferedProtocol):
    """A protocol that is given its bytes in small pieces, and charged for the time that it takes."""

    transport: Any
    messages = 0

    def get_buffer(self, sizehint: int) -> bytearray:
        self._piece = bytearray(_PIECE)
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        began, self.messages = time.thread_time(), 0
        self.data_received(bytes(self._piece[:nbytes]))  # type: ignore[attr-defined]
        taken = time.thread_time() - began - _DUE_PER_BYTE * nbytes - _DUE_PER_MESSAGE * min(1, self.messages)
        self.transport.charge(max(0.0, taken))


class _Web(_InPieces, H11Protocol):  # type: ignore[misc]  # they differ in a hint
    door_of: _Door

    def connection_made(self, transport: Any) -> None:
        wrapped: Any = _Transport(transport, self.door_of)
        super().connection_made(wrapped)
        self.door_of.enter(wrapped)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door_of.leave(self.transport)
        super().connection_lost(exc)


class _Socket(_InPieces, WebSocketsSansIOProtocol):  # type: ignore[misc]
    """A WebSocket, which waits at the door until the application calls ``state["admit"]``."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "admit": lambda: transport.door.leave(transport)}

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.door.leave(self.transport)
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; close a connection that does not wait for answers, or sends a text that is not UTF-8."""
        self.messages += 1
        if self.queue.qsize() >= _UNANSWERED:
            while not self.queue.empty():  # nobody waits for these answers
                self.queue.get_nowait()
            self._fail(POLICY_VIOLATION, f"more than {_UNANSWERED} messages wait for an answer")
            return
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:  # for which uvicorn would log a traceback
            self._fail(_INVALID_DATA, "a text must be UTF-8")
            return
        super().send_receive_event_to_app()

    def _fail(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()


class _Quiet(logging.Filter):
    """Lets a number of lines through in a stretch of time, and says how many it has left out."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._count = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._began > _LINES_SECONDS:
            if self._count > _LINES:
                record.msg = f"{self._count - _LINES} lines left out; {record.getMessage()}"
                record.args = ()
            self._began, self._count = now, 0
        self._count += 1
        return self._count <= _LINES


_QUIET = _Quiet()
