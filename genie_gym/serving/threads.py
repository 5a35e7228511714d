"""Threads: how many the kernels use, and PyTorch's own threads beside them.

PyTorch's threads (OpenMP) spin for milliseconds when they have nothing to do, and take the processor from the kernels'
threads, which wait in a bounded way. Beside the kernels PyTorch's part of a step is small: it runs on one thread.
"""

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator

import torch

_present = threading.local()


def kernel_threads() -> int:
    """Return the number of threads for kernels called by this thread: ``torch.get_num_threads()`` by default."""
    return getattr(_present, "kernel_threads", None) or torch.get_num_threads()


@contextlib.contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread within the block, in this thread alone; the kernels keep theirs."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    _present.kernel_threads = threads
    _set_openmp_threads()(1)
    try:
        yield
    finally:
        _set_openmp_threads()(threads)
        _present.kernel_threads = None


@functools.cache
def _set_openmp_threads() -> Callable[[int], object]:
    """Return a function that sets the number of PyTorch's threads for the calling thread alone, if there is one.

    ``torch.set_num_threads`` also sets it for threads that start later.
    """
    before = torch.get_num_threads()
    with contextlib.suppress(AttributeError):  # an OpenMP library that ctypes does not find, or none
        set_threads = ctypes.CDLL(None).omp_set_num_threads
        set_threads(before + 1)
        found = torch.get_num_threads() == before + 1
        set_threads(before)
        if found:
            return set_threads
    return torch.set_num_threads
