"""Independent tasks run in several processes."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def run_in_processes(
    work: Callable[[_Task], _Result], tasks: Iterable[_Task], processes: int, threads: int = 1
) -> Iterator[tuple[_Task, _Result]]:
    """Run tasks in several processes and yield each task with its result as soon as it is done.

    If a task fails or the caller stops iterating, tasks that have not begun are cancelled; Ctrl-C ends those that have.

    Args:
        work: Function from a task to its result. The function, the tasks and the results must be picklable.
        tasks: Tasks in the order in which they begin.
        processes: Number of processes.
        threads: Number of torch threads in each process; few keep the processes from competing for cores.
    """
    spawn, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with ProcessPoolExecutor(processes, spawn, initializer=functools.partial(_begin_worker, threads)) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        try:
            for done in as_completed(futures):
                yield futures[done], done.result()
        except BrokenProcessPool as error:
            raise OSError("a process of this command was killed by the system, such as for want of memory") from error
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                for child in multiprocessing.active_children():
                    if child not in others:
                        child.terminate()
            raise


def _begin_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a keyboard's Ctrl-C reaches all processes, and the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone: a killed parent can stop no one, and would be waited for for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
