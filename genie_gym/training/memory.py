"""How the C library holds memory while a model trains."""

import ctypes
import functools
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of ``mallopt``, in glibc's ``malloc.h``."""
LARGEST, KEPT = 2**30, 2**31 - 1
"""Bytes: blocks up to the first come from the heap, of which up to the second stays when it is free."""


@functools.cache
def keep_freed_memory() -> bool:
    """Have glibc keep what a step's tensors free for the next step's, once a process.

    As it is, it gives large blocks back to the system at once, which fills them with zeros, page by page, before the
    next step has them.

    Returns:
        Whether it will; not where another C library is in use.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, LARGEST) and library.mallopt(M_TRIM_THRESHOLD, KEPT))
