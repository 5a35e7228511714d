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
    limit, _present.kernel_threads = _find_limit(), threads
    limit(1, 1)
    try:
        yield
    finally:
        limit(threads, 0)
        _present.kernel_threads = None


@functools.cache
def _find_limit() -> Callable[[int, int], object]:
    """Return a function that sets the threads of OpenMP and MKL (0: as many as OpenMP) for the calling thread alone.

    ``torch.set_num_threads`` would set them for all threads that start later, too; it is the fallback for builds of
    PyTorch whose libraries have other names.
    """
    try:
        library = ctypes.CDLL("libtorch_cpu.so")
        set_openmp, set_mkl = library.omp_set_num_threads, library.MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return lambda openmp, mkl: torch.set_num_threads(openmp)
    return lambda openmp, mkl: (set_openmp(openmp), set_mkl(mkl))
