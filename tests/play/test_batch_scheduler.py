"""What visitors ask for is done in turn, and steps come first."""

import asyncio
import threading
from typing import Any

import pytest

from genie_gym.envs.session import Start
from genie_gym.play.batch_scheduler import BatchScheduler
from genie_gym.play.setup import PlaySetup
from genie_gym.play.visitor import Visitor


def begin(setup: PlaySetup, temperature: float | None = None) -> Visitor:
    visitor = Visitor(setup.session.world, setup.checkpoint, temperature=temperature)
    visitor.start(Start(setup.session.world.start_clips[0], 0, 0))
    return visitor


def test_a_step_is_taken_while_something_else_takes_long(setup: PlaySetup) -> None:
    async def play() -> None:
        scheduler, visitor, ends = BatchScheduler(setup.session.sampling), begin(setup), threading.Event()
        slow = asyncio.create_task(scheduler.beside_world.call(ends.wait))
        await scheduler.step(visitor, 1)
        assert not slow.done()
        ends.set()
        assert await slow
        scheduler.close()

    asyncio.run(play())


@pytest.mark.parametrize("name", ["in_world", "beside_world"])
def test_calls_of_a_queue_are_made_one_at_a_time_with_rests_between(setup: PlaySetup, name: str) -> None:
    running, most, order = [0], [0], []

    def work(number: int) -> int:
        running[0] += 1
        most[0] = max(most[0], running[0])
        threading.Event().wait(0.02)
        running[0] -= 1
        order.append(number)
        return number

    async def play() -> None:
        scheduler, visitor = BatchScheduler(setup.session.sampling), begin(setup)
        queue = getattr(scheduler, name)
        calls = [asyncio.create_task(queue.call(work, number)) for number in range(5)]
        await asyncio.sleep(0)
        await scheduler.step(visitor, 1)
        assert len(order) <= 2, "a step does not wait for the whole queue"
        assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]
        scheduler.close()

    asyncio.run(play())
    assert (most[0], order) == (1, [0, 1, 2, 3, 4])


def test_a_call_that_fails_raises_and_the_queue_goes_on(setup: PlaySetup) -> None:
    def fail() -> None:
        raise ValueError("broken")

    async def play() -> int:
        scheduler = BatchScheduler(setup.session.sampling)
        with pytest.raises(ValueError, match="broken"):
            await scheduler.beside_world.call(fail)
        try:
            return await scheduler.beside_world.call(int, 3)
        finally:
            scheduler.close()

    assert asyncio.run(play()) == 3


def test_replays_with_other_sampling_leave_the_batch_to_the_others(setup: PlaySetup, monkeypatch: Any) -> None:
    """They are stepped one at a time, in the queue that rests."""
    world = setup.session.world
    passes: list[int] = []
    advance = world.advance
    monkeypatch.setattr(world, "advance", lambda *given: (passes.append(len(given[1])), advance(*given))[1])
    players = [begin(setup) for _ in range(3)]
    others = [begin(setup, temperature=1 + number / 8) for number in range(1, 4)]

    async def play() -> None:
        scheduler = BatchScheduler(setup.session.sampling)
        await asyncio.gather(*(scheduler.step(visitor, 1) for visitor in [*others, *players]))
        scheduler.close()

    asyncio.run(play())
    assert sorted(passes) == [1, 1, 1, 3], passes
    assert passes.index(3) <= 1, "players wait for one of the others at most"
    assert [visitor.steps for visitor in [*others, *players]] == [1] * 6
