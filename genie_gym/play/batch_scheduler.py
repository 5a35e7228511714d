"""One world for several visitors: requests that arrive during a pass of the world share the next pass.

The next frame of a game comes first. Whatever else visitors ask for waits in a ``Queue``, which leaves two thirds of
the time to those who play.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from genie_gym.configs import SamplingConfig
from genie_gym.play.visitor import Visitor, step_visitors
from genie_gym.system import return_freed_memory

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_REST = 2.0
"""Rest of a queue after a call, as a multiple of the time that the call took."""

_TIDYING = 5.0
"""Seconds for which freed memory is kept."""


class Request(NamedTuple):
    """A visitor's request for the next frame."""

    visitor: Visitor
    latent_action: int
    frame: "asyncio.Future[np.ndarray]"


class Queue:
    """Calls that wait for each other: one at a time in a thread, each followed by a rest of twice its time.

    Args:
        thread: Executor that makes the calls; others may use it, too.
    """

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread, self._turn, self._rested_at = thread, asyncio.Lock(), 0.0

    async def call(
        self, function: Callable[_Arguments, _Result], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        """Call a function when its turn has come, and return its result."""
        loop, work = asyncio.get_running_loop(), functools.partial(function, *args, **kwargs)
        async with self._turn:
            await asyncio.sleep(self._rested_at - loop.time())
            began = loop.time()
            try:
                return await loop.run_in_executor(self._thread, work)
            finally:
                self._rested_at = loop.time() + _REST * (loop.time() - began)


class BatchScheduler:
    """Batches the steps of the visitors of one world. One thread plays it; the event loop stays free.

    Args:
        sampling: Sampling config that most visitors play with.
        batch_size: Maximal number of visitors stepped in one pass.
    """

    def __init__(self, sampling: SamplingConfig, batch_size: int = 16) -> None:
        self._sampling, self._batch_size = sampling, batch_size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch-scheduler")
        self._other_thread = ThreadPoolExecutor(1, thread_name_prefix="beside-the-world")
        self.in_world = Queue(self._thread)
        """calls that use the world and are no step: starts, and steps with sampling of their own"""
        self.beside_world = Queue(self._other_thread)
        """calls that take long and do not use the world: pictures, videos, long texts"""
        self._requests: list[Request] = []
        self._work: asyncio.Task[None] | None = None
        self._is_untidy = False
        self._tidying: asyncio.Task[None] | None = None

    async def step(self, visitor: Visitor, latent_action: int) -> np.ndarray:
        """Return the visitor's next frame, (H, W, 3) uint8.

        Raises:
            ValueError: As ``Visitor.step`` does.
        """
        visitor.require_action(latent_action)
        if visitor.session.sampling != self._sampling:  # a batch shares one sampling config, and others may take long
            return await self.in_world.call(visitor.step, latent_action)
        request = Request(visitor, latent_action, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._serve())
        return await request.frame

    async def choose(
        self, function: Callable[_Arguments, int], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> int:
        """Return the action that a driver chooses; it runs in the world's thread, as early as a step would."""
        work = functools.partial(function, *args, **kwargs)
        return int(await asyncio.get_running_loop().run_in_executor(self._thread, work))

    def tidy(self) -> None:
        """Have freed memory returned to the system, soon; one return serves all who ask before it begins."""
        self._is_untidy = True
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._tidy_later())

    def close(self) -> None:
        """End the threads."""
        if self._tidying is not None:
            self._tidying.cancel()
        for thread in (self._thread, self._other_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    async def _tidy_later(self) -> None:
        while self._is_untidy:
            await asyncio.sleep(_TIDYING)  # the world waits while memory is returned, so this must not happen often
            self._is_untidy = False
            await self.beside_world.call(return_freed_memory)

    async def _serve(self) -> None:
        """Serve the waiting requests in batches until none is left."""
        while self._requests:
            batch, self._requests = self._requests[: self._batch_size], self._requests[self._batch_size :]
            visitors, actions = [each.visitor for each in batch], [each.latent_action for each in batch]
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, step_visitors, visitors, actions)
            except Exception as error:  # noqa: BLE001  # raised for every visitor of the batch
                for request in batch:
                    if not request.frame.done():
                        request.frame.set_exception(error)
                continue
            for request in batch:
                if not request.frame.done():  # the visitor may have left
                    request.frame.set_result(request.visitor.frame)
