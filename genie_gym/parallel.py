"""Independent tasks in several processes."""

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def work_apart(
    work: Callable[[Task], Result], tasks: Iterable[Task], processes: int, threads: int = 1
) -> Iterator[tuple[Task, Result]]:
    """Each task with its result, as they are done, each worked on in one of several processes.

    A task that fails, or a caller that breaks off, ends the others that have not begun.

    Args:
        work: From a task to its result; like both, it must be picklable.
        tasks: In the order in which they are begun.
        processes: How many.
        threads: Of torch in each, so that they do not take each other's cores.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=functools.partial(torch.set_num_threads, threads)) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        try:
            for done in as_completed(futures):
                yield futures[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
