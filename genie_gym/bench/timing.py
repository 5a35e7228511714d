"""Timing: the median of several short runs, with the share of time spent in selected methods."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch

LEAST_RUNS, MOST_RUNS = 3, 5
"""Smallest and largest number of runs, of which the median is taken; time decides between them."""


class Timing(NamedTuple):
    """Seconds of one call, and how many of them were spent in each timed part of it."""

    seconds: float
    parts: dict[str, float]


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
    work()
    timings: list[Timing] = []
    started = time.perf_counter()
    while len(timings) < LEAST_RUNS or (len(timings) < MOST_RUNS and time.perf_counter() - started < seconds):
        timings.append(_time_run(work, seconds / MOST_RUNS, device, {} if spent is None else spent))
    return sorted(timings, key=lambda timing: timing.seconds)[len(timings) // 2]


@contextlib.contextmanager
def time_methods(methods: Mapping[str, tuple[Any, str]], device: torch.device) -> Iterator[dict[str, float]]:
    """Replace methods of objects while inside, and yield the seconds spent so far in each part.

    Args:
        methods: Object and name of the method for each part. They must not call each other.
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
    before, calls, started = dict(spent), 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - started < seconds:
        work()
        calls += 1
    wait_for(device)
    whole = time.perf_counter() - started
    return Timing(whole / calls, {part: (total - before[part]) / calls for part, total in spent.items()})
