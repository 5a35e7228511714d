"""One world for several players at once: what they ask for while a frame is made is made together by the next pass."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from genie_gym.play.seat import Visitor, step_together

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Request(NamedTuple):
    """A frame that somebody waits for."""

    seat: Visitor
    latent_action: int
    frame: "asyncio.Future[np.ndarray]"


class Table:
    """Seats of one world. All its work is done by one thread, and the event loop stays free.

    Args:
        together: Games that are stepped in one pass, at most.
    """

    def __init__(self, together: int = 16) -> None:
        self._together = together
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="table")
        self._wishes: list[Request] = []
        self._work: asyncio.Task[None] | None = None

    async def step(self, seat: Visitor, latent_action: int) -> np.ndarray:
        """The seat's next frame, (H, W, 3) uint8.

        Raises:
            ValueError: As ``Visitor.step`` does.
        """
        seat.require_action(latent_action)
        wish = Request(seat, latent_action, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._grant())
        return await wish.frame

    async def call(
        self, function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Something else of the world's, in the same thread."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _grant(self) -> None:
        while self._wishes:
            first = self._wishes[0]
            alike = [wish for wish in self._wishes if wish.seat.sampling == first.seat.sampling][: self._together]
            self._wishes = [wish for wish in self._wishes if wish not in alike]
            try:
                await self.call(step_together, [each.seat for each in alike], [each.latent_action for each in alike])
            except Exception as error:  # noqa: BLE001  # told to all who wait
                for wish in alike:
                    if not wish.frame.done():
                        wish.frame.set_exception(error)
                continue
            for wish in alike:
                if not wish.frame.done():  # its player may have left
                    wish.frame.set_result(wish.seat.frame)
