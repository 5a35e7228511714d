"""How anything here is timed: the median of several short runs, and where in them the time went."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

LEAST_RUNS, MOST_RUNS = 3, 5


class Timing(NamedTuple):
    """``seconds`` of one call, and how many of these were spent in each of its watched ``parts``."""

    seconds: float
    parts: dict[str, float]


def measure(
    work: Callable[[], object], seconds: float, device: torch.device, spent: Mapping[str, float] | None = None
) -> Timing:
    """Time calls of ``work`` in a few short runs, after one call that does not count.

    Args:
        work: To time.
        seconds: For all runs together; each is one call at least, and there are at least ``LEAST_RUNS``.
        device: Waited for at both ends of a run.
        spent: Of ``time_methods``, around the call of this function.

    Returns:
        A call's share of the median run, so that its parts belong to the same calls as its seconds.
    """
    work()
    timings: list[Timing] = []
    started = time.perf_counter()
    while len(timings) < LEAST_RUNS or (len(timings) < MOST_RUNS and time.perf_counter() - started < seconds):
        timings.append(_time_run(work, seconds / MOST_RUNS, device, {} if spent is None else spent))
    return sorted(timings, key=lambda timing: timing.seconds)[len(timings) // 2]


@contextlib.contextmanager
def time_methods(methods: Mapping[str, tuple[Any, str]], device: torch.device) -> Iterator[dict[str, float]]:
    """Add up the seconds that go by in methods of objects, which are themselves again afterwards.

    Args:
        methods: Object and method by the name of the part. None may call another.
        device: Waited for before and after each call, so that a part is charged with its own work alone.

    Yields:
        Seconds so far by part.
    """
    spent = dict.fromkeys(methods, 0.0)
    before = [(owner, method, vars(owner).get(method)) for owner, method in methods.values()]
    try:
        for part, (owner, method) in methods.items():
            setattr(owner, method, _timed(getattr(owner, method), part, spent, device))
        yield spent
    finally:
        for owner, method, own in before:
            if own is not None:
                setattr(owner, method, own)
            elif method in vars(owner):
                delattr(owner, method)


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told to."""
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
