"""One world for several visitors: requests that arrive during a pass of the world share the next pass."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from genie_gym.play.visitor import Visitor, step_visitors

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Request(NamedTuple):
    """A visitor's request for the next frame."""

    visitor: Visitor
    latent_action: int
    frame: "asyncio.Future[np.ndarray]"


class BatchScheduler:
    """Batches the steps of the visitors of one world. One thread does all the work; the event loop stays free.

    Args:
        batch_size: Maximal number of visitors stepped in one pass.
    """

    def __init__(self, batch_size: int = 16) -> None:
        self._batch_size = batch_size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch-scheduler")
        self._requests: list[Request] = []
        self._work: asyncio.Task[None] | None = None

    async def step(self, visitor: Visitor, latent_action: int) -> np.ndarray:
        """Return the visitor's next frame, (H, W, 3) uint8.

        Raises:
            ValueError: As ``Visitor.step`` does.
        """
        visitor.require_action(latent_action)
        request = Request(visitor, latent_action, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._serve())
        return await request.frame

    async def call(
        self, function: Callable[_Arguments, _Result], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        """Call another function that uses the world, in the same thread, and return its result."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        """Serve the waiting requests in batches until none is left."""
        while self._requests:
            sampling = self._requests[0].visitor.session.sampling  # a batch shares one sampling config
            batch = [each for each in self._requests if each.visitor.session.sampling == sampling][: self._batch_size]
            self._requests = [each for each in self._requests if each not in batch]
            try:
                await self.call(step_visitors, [each.visitor for each in batch], [each.latent_action for each in batch])
            except Exception as error:  # noqa: BLE001  # raised for every visitor of the batch
                for request in batch:
                    if not request.frame.done():
                        request.frame.set_exception(error)
                continue
            for request in batch:
                if not request.frame.done():  # the visitor may have left
                    request.frame.set_result(request.visitor.frame)
