"""Timing: the median of several short runs, alone or in turn with others, and the time spent in selected methods."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest import mock

import torch

LEAST_RUNS, MOST_RUNS = 3, 5
"""Smallest and largest number of runs, of which the median is taken; time decides between them."""


class Timing(NamedTuple):
    """Seconds of one call, how many of them were spent in each timed part of it, and the processor's seconds."""

    seconds: float
    parts: dict[str, float]
    processor: float = 0.0
    """Processor time of all threads of this process."""


class Contender(NamedTuple):
    """Work that is timed in turn with other work, and the context that it runs in."""

    work: Callable[[], object]
    context: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext


def measure(
    work: Callable[[], object], seconds: float, device: torch.device, spent: Mapping[str, float] | None = None
) -> Timing:
    """Time calls of ``work`` in a few short runs, after one warm-up call; return the mean over the median run's calls.

    Args:
        work: Function to time.
        seconds: Time for all runs together; there are at least ``LEAST_RUNS``, each of at least one call.
        device: Torch device to synchronise with before and after a run.
        spent: Dictionary from ``time_methods``, if this call is within it; gives the parts of the ``Timing``.
    """
    return compare({"": Contender(work)}, seconds, device, spent)[""]


def compare(
    contenders: Mapping[str, Contender],
    seconds: float,
    device: torch.device,
    spent: Mapping[str, float] | None = None,
) -> dict[str, Timing]:
    """Time several kinds of work in turn, so that whatever slows the machine for a while slows each of them.

    Args:
        contenders: Name -> work. Each runs once before each of its runs, which warms it up.
        seconds: Time for all runs of each of them, as in ``measure``.
        device: As in ``measure``.
        spent: As in ``measure``.

    Returns:
        Name -> the mean over the calls of its median run.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    started, rounds, names = time.perf_counter(), 0, list(contenders)
    while rounds < LEAST_RUNS or (rounds < MOST_RUNS and time.perf_counter() - started < seconds * len(contenders)):
        for name in names:
            work, context = contenders[name]
            with context():
                if rounds == 0 or len(contenders) > 1:
                    work()
                timings[name].append(_time_run(work, seconds / MOST_RUNS, device, {} if spent is None else spent))
        rounds += 1
        names.reverse()
    return {name: sorted(runs, key=lambda timing: timing.seconds)[len(runs) // 2] for name, runs in timings.items()}


@contextlib.contextmanager
def time_methods(methods: Mapping[str, tuple[Any, str]], device: torch.device) -> Iterator[dict[str, float]]:
    """Replace methods of objects while inside, and yield the seconds spent so far in each part.

    Args:
        methods: Object and name of the method for each part. A part includes those that it calls.
        device: Torch device to synchronise with before and after each call, so that a part counts only its own work.
    """
    spent = dict.fromkeys(methods, 0.0)
    with contextlib.ExitStack() as stack:
        for part, (owner, method) in methods.items():
            timed = _timed(getattr(owner, method), part, spent, device)
            stack.enter_context(mock.patch.object(owner, method, timed))
        yield spent


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(method: Callable[..., Any], part: str, spent: dict[str, float], device: torch.device) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        wait_for(device)
        started = time.perf_counter()
        result = method(*args, **kwargs)
        wait_for(device)
        spent[part] += time.perf_counter() - started
        return result

    return call


def _time_run(work: Callable[[], object], seconds: float, device: torch.device, spent: Mapping[str, float]) -> Timing:
    wait_for(device)
    before, calls, processor, started = dict(spent), 0, time.process_time(), time.perf_counter()
    while calls == 0 or time.perf_counter() - started < seconds:
        work()
        calls += 1
    wait_for(device)
    whole, processor = time.perf_counter() - started, time.process_time() - processor
    parts = {part: (total - before[part]) / calls for part, total in spent.items()}
    return Timing(whole / calls, parts, processor / calls)
