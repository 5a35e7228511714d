"""Threads: how many the kernels use, and PyTorch's own threads beside them.

The kernels have threads of their own, which wait in a bounded way (``native/threads.h``). PyTorch's (OpenMP) spin for
milliseconds after each operation and take the processor from others. Beside the kernels, PyTorch's part of a step is
small: one thread computes it.
"""

import contextlib
import ctypes
import functools
import math
import sys
import threading
from collections.abc import Callable, Iterator

import torch

from genie_gym.models.base import require_threads
from genie_gym.system import read_quota

_SOFT = 1  # omp_pause_soft in omp.h
_present = threading.local()


def kernel_threads() -> int:
    """Return the number of threads for kernels called by this thread.

    It is ``torch.get_num_threads()``, unless a container's quota allows less: torch counts cores only.
    """
    return min(getattr(_present, "kernel_threads", None) or torch.get_num_threads(), _most_threads())


@functools.cache
def _most_threads() -> int:
    quota = read_quota()
    return sys.maxsize if quota is None else math.ceil(quota)


@contextlib.contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread within the block, in this thread alone; the kernels keep theirs.

    Raises:
        RuntimeError: If this process lost PyTorch's threads when it was forked: ending them would wait for ever.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    require_threads()
    set_threads, end_threads = _find_openmp()
    _present.kernel_threads = threads
    set_threads(1)
    end_threads()
    try:
        yield
    finally:
        set_threads(threads)
        _present.kernel_threads = None


@functools.cache
def _find_openmp() -> tuple[Callable[[int], object], Callable[[], object]]:
    """Return two functions for the calling thread alone: set the number of its OpenMP threads, and end those it has.

    Threads that were ended start again when PyTorch needs them. ``torch.set_num_threads``, which would also limit all
    threads that start later, is the fallback for builds of PyTorch whose libraries have other names.
    """
    try:
        library = ctypes.CDLL("libtorch_cpu.so")
        set_openmp, set_mkl = library.omp_set_num_threads, library.MKL_Set_Num_Threads_Local
        pause = library.omp_pause_resource_all
    except (OSError, AttributeError):
        return torch.set_num_threads, lambda: None
    return lambda threads: (set_openmp(threads), set_mkl(1 if threads == 1 else 0)), lambda: pause(_SOFT)
