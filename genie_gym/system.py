"""Queries and settings of the operating system: processor flags, kept memory, forks, files and their locks."""

import contextlib
import ctypes
import errno
import functools
import glob
import json
import os
import platform
import shutil
import signal
import socket
import sys
import time
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from genie_gym.checks import require_on_disk
from genie_gym.foreign import read_json

KERNEL_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")
"""Processor flags that decide about the kernels' vectors, precision and tiles."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from glibc's malloc.h
_FORKED_WITHOUT_EXEC = 0x40  # PF_FORKNOEXEC in Linux's sched.h
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files of a control group's processor quota and its period, in versions 2 and 1 of control groups."""
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's fcntl.h and fs.h
_SIGNAL_AT_END = 1  # PR_SET_PDEATHSIG of Linux's prctl.h
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
_LOOK_AGAIN = 0.02  # seconds between two tries to take a lock
"""Errors of storage that knows no locks, such as Lustre without its option ``flock``."""


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc's allocator keep the memory that this process frees; only the first call acts.

    By default glibc returns large blocks to the kernel and requests them again for every intermediate tensor, at one
    page fault per 4 KiB. Users who set ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_`` keep their own choice.

    Returns:
        Whether the allocator accepted; False with another C library, or if one of those variables is set.
    """
    if platform.libc_ver()[0] != "glibc" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_MMAP_THRESHOLD, 2**30))


def return_freed_memory() -> bool:
    """Make glibc's allocator give freed memory back to the kernel, and return whether there was any.

    It undoes ``keep_freed_memory`` for once, after rare work that takes much memory.
    """
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))


def peak_resident() -> int | None:
    """Return the largest number of bytes that this process has held in memory; None on Windows, which does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def processor_flags() -> frozenset[str]:
    """Return the processor's instruction sets as Linux names them; empty on other systems."""
    return frozenset(describe_processor().get("flags", "").split())


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores' time the control group of a container allows, or None if it sets no limit."""
    for names in _QUOTAS:
        files = [root / name for name in names]
        if all(file.is_file() for file in files):
            quota, period = " ".join(file.read_text() for file in files).split()
            return None if quota in {"max", "-1"} else int(quota) / int(period)
    return None


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; the file then replaces ``path``, or is removed on error.

    Raises:
        OSError: Naming ``path``, if it cannot be written, such as on a full disk.
    """
    temporary = name_temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise _refuse_file(path, error) from error
    finally:
        if temporary.is_file():
            temporary.unlink()


def name_temporary(path: Path) -> Path:
    """Return a path beside ``path`` that this process alone uses, and delete what killed processes left at theirs."""
    own = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        number = left.name[len(path.name) + 1 : -len(".tmp")]
        if left == own or (number.isdecimal() and not _is_running(int(number))):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return own


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders at once, or return False where the system or the storage cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and not rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)


def _is_running(process: int) -> bool:
    """Return whether a process of this machine runs; on Windows, where asking would end it, True."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _refuse_file(path: Path, error: OSError) -> OSError:
    """Return an error like ``error`` that names the file."""
    if error.errno is None:
        return OSError(f"{path}: cannot be written ({error})")
    return OSError(error.errno, error.strerror, str(path))


def require_folder(folder: Path) -> None:
    """Make a folder; ``ValueError`` if it cannot be made or written into."""
    require_on_disk("folder", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be written ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"folder {folder} cannot be written")


@contextlib.contextmanager
def lock_folder(folder: Path, seconds: float = 0.0) -> Iterator[None]:
    """Make a folder and hold it for this process alone, until the context or the process ends; not locked on Windows.

    The kernel locks the hidden file ``.lock``, which is deleted at the end; a process that was killed leaves no lock
    behind. Of several processes that work in a folder together, one takes it for all.

    Args:
        folder: Folder to hold.
        seconds: Time to wait for another one that holds the folder to let it go, before the error.

    Raises:
        ValueError: Naming the other process, if it holds the folder, or if the folder cannot be written.
        OSError: If the disk is full.
    """
    require_folder(folder)
    if sys.platform == "win32":
        yield
        return
    path = folder / ".lock"
    with contextlib.ExitStack() as held:
        while True:
            try:
                file = held.enter_context(path.open("a+"))
            except OSError as error:
                raise ValueError(f"folder {folder} cannot be written ({error.strerror})") from error
            _lock_file(file, folder, seconds)
            # The one who held the lock may have deleted the file after it was opened here, and others may do so now.
            if _lies_at(path, file):
                break
        held.callback(path.unlink, missing_ok=True)
        try:
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError as error:
            raise _refuse_file(path, error) from error
        yield


def _lock_file(file: TextIO, folder: Path, seconds: float) -> None:
    """Lock an open file until it is closed; if another one holds it for so long, raise ``ValueError``."""
    import fcntl

    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                warnings.warn(f"{folder} lies on storage without locks: let no other command write there", stacklevel=4)
            elif time.monotonic() < end:
                time.sleep(_LOOK_AGAIN)
                continue
            else:
                file.seek(0)
                holder = file.read().strip() or "another process"
                wanted = "wait until it ends, or choose another folder"
                raise ValueError(f"{folder} is in use by {holder}; {wanted}") from error
        return


class FolderClaim:
    """What those who write into a folder at the same time agree on, held until it is released or the process ends.

    The hidden file ``.writers`` keeps it as JSON, and each of them holds the kernel's shared lock of this file, so that
    a process that was killed claims nothing. The last one deletes it. Nothing is claimed on Windows and on storage
    without locks.

    Args:
        folder: Folder that they write into.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".writers"
        self._file: TextIO | None = None

    def agree(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what all agree on: what others have claimed before, and what of ``values`` nobody has.

        Whoever calls it holds the folder by ``lock_folder``.

        Raises:
            OSError: If the disk is full.
            ValueError: If the file is damaged.
        """
        if sys.platform == "win32":
            return values
        try:
            is_first = self._file is None and self._open()
            assert self._file is not None
            known = {} if is_first else read_json(self._path)
            agreed = {**values, **known}
            if agreed != known:
                # Unbuffered: what a full disk refused would otherwise be written again when the file is closed.
                told = json.dumps(agreed).encode()
                os.ftruncate(self._file.fileno(), 0)
                if os.write(self._file.fileno(), told) < len(told):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if error.errno not in _NO_LOCKS:  # of those, ``lock_folder`` has warned
                self.release()
                raise _refuse_file(self._path, error) from error
            self._path.unlink(missing_ok=True)
            self._file = None
            return values
        return agreed

    def release(self) -> None:
        """Claim nothing any more."""
        held, self._file = self._file, None
        if held is not None:
            with held as file:
                if _try_lock(file) and _lies_at(self._path, file):
                    self._path.unlink()

    def _open(self) -> bool:
        """Open the file and take its shared lock; return whether nobody else has it, so that what it says is over."""
        import fcntl

        while True:
            self._file = self._path.open("a+", encoding="utf-8")
            is_alone = _try_lock(self._file)
            fcntl.flock(self._file, fcntl.LOCK_SH)
            if _lies_at(self._path, self._file):  # else the last one has deleted it since it was opened here
                return is_alone
            self._file.close()


def _try_lock(file: TextIO) -> bool:
    """Take the lock of an open file for oneself alone, and return whether that succeeds; if not, one has none."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lies_at(path: Path, file: TextIO) -> bool:
    """Return whether an open file is the one at a path, which others may have deleted or replaced."""
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def end_with_parent() -> None:
    """Have Linux send SIGTERM to this process when the one that started it ends, even if that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_END, signal.SIGTERM)


def list_files(folder: Path, suffixes: Collection[str], deep: bool = False) -> list[Path]:
    """Return the files in a folder that end in one of the suffixes, in order, and if ``deep`` those of its subfolders.

    Names that begin with a dot are left out: macOS writes a file ._NAME beside each NAME on disks of other systems.
    """
    paths = (path for path in (folder.rglob("*") if deep else folder.iterdir()) if path.suffix.lower() in suffixes)
    shown = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.is_file())


def guard_forks() -> None:
    """Make forked processes compute with one PyTorch thread: those to come, and this one if it was forked.

    A fork copies no threads, and OpenMP, PyTorch's thread library, waits for ever for the ones that it had before.
    Nothing needs guarding if PyTorch is loaded after the fork, or if the process is started by ``spawn``.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=_begin_child)
    if "torch" in sys.modules and _was_forked():
        sys.modules["torch"].set_num_threads(1)  # whether PyTorch was loaded before the fork cannot be known here


def has_lost_threads() -> bool:
    """Return whether this process was forked after PyTorch was loaded, so that PyTorch must stay with one thread."""
    return _lost_threads


_lost_threads = False


def _begin_child() -> None:
    global _lost_threads  # noqa: PLW0603
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        _lost_threads = True


def _was_forked() -> bool:
    """Return whether Linux says that this process was forked and has not started another program since."""
    path = Path("/proc/self/stat")
    return path.exists() and bool(int(path.read_text().rpartition(")")[2].split()[6]) & _FORKED_WITHOUT_EXEC)


@functools.cache
def describe_processor() -> dict[str, str]:
    """Return the constant fields of the first processor in ``/proc/cpuinfo``; empty on other systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {name: fields[name] for name in ("model name", "cpu family", "model", "flags", "Features") if name in fields}
