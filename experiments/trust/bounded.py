"""Cases run in a worker process within bounds of processor time and memory, with a report of how each ended."""

import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from genie_gym.system import return_freed_memory

_ALLOWED = ("success", "ValueError", "OSError")


class Bounds(NamedTuple):
    """What a case may take."""

    seconds: float = 10.0
    """processor time"""
    megabytes: int = 1500
    """memory beside that of the worker before its first case"""
    hang: int = 300
    """seconds on the clock, after which a case waits for something that does not come"""


class CaseOutcome(NamedTuple):
    """How a case ended."""

    number: int
    """number of the case"""
    ending: str
    """``success``, the name of an exception, or what else befell the worker"""
    message: str
    """the exception's message"""
    seconds: float
    """processor time"""
    megabytes: int
    """peak memory of the worker in this case, beside what it had before its first one"""

    def is_allowed(self, bounds: Bounds) -> bool:
        """Return whether the case ended in success or an error of the allowed kinds, within its bounds."""
        is_within = self.seconds <= bounds.seconds and self.megabytes <= bounds.megabytes
        return self.ending in _ALLOWED and is_within


def run_bounded(run: Callable[[int], object], numbers: Sequence[int], bounds: Bounds) -> Iterator[CaseOutcome]:
    """Run cases in order in forked workers, and yield how each ended; a worker that dies is replaced.

    Args:
        run: Function that runs the case of a number.
        numbers: Numbers of the cases.
        bounds: What each may take.
    """
    done = 0
    while done < len(numbers):
        for outcome in _start_worker(run, numbers[done:], bounds):
            done += 1
            yield outcome


def _start_worker(run: Callable[[int], object], numbers: Sequence[int], bounds: Bounds) -> Iterator[CaseOutcome]:
    """Yield the outcomes of one worker, which ends with the first case that breaks a bound."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    worker = os.fork()
    if worker == 0:
        os.close(reader)
        try:
            _work(run, numbers, bounds, writer)
        finally:
            os._exit(0)
    os.close(writer)
    done = 0
    with os.fdopen(reader) as lines:
        for line in lines:
            done += 1
            yield CaseOutcome(*json.loads(line))
    _, status = os.waitpid(worker, 0)
    if os.WIFSIGNALED(status) and done < len(numbers):
        killed = signal.Signals(os.WTERMSIG(status)).name
        yield CaseOutcome(numbers[done], f"killed by {killed}", "", 0.0, 0)


def _work(run: Callable[[int], object], numbers: Sequence[int], bounds: Bounds, writer: int) -> None:
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # Pillow's, about damaged files
    return_freed_memory()  # else a case would be given memory that the parent has freed and kept
    _reset_peak()  # a fork begins with that of its parent
    base = _peak_megabytes()
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (4 * bounds.megabytes << 20),) * 2)
    for number in numbers:
        signal.setitimer(signal.ITIMER_PROF, 3 * bounds.seconds)  # kills a loop that would not end
        signal.alarm(bounds.hang)
        _reset_peak()
        began, message = time.process_time(), ""
        try:
            run(number)
            ending = "success"
        except BaseException as error:  # noqa: BLE001  # every other ending is what is looked for
            ending, message = _name(error), str(error)[:2000]
        seconds, grown = time.process_time() - began, _peak_megabytes() - base
        found = CaseOutcome(number, ending, message, round(seconds, 3), grown)
        os.write(writer, (json.dumps(found) + "\n").encode())
        if not found.is_allowed(bounds):
            return


def _name(error: BaseException) -> str:
    allowed = next((kind for kind in (ValueError, OSError) if isinstance(error, kind)), type(error))
    return allowed.__name__


def _reset_peak() -> None:
    """Let the peak of memory begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_megabytes() -> int:
    """Return the most memory that this process has held since it last reset its peak (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
