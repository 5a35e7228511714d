"""The folder of compiled kernels; a library in it is loaded only if nobody but this user can have written it."""

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CURE = "set XDG_CACHE_HOME to a folder of your own"
_TEMPORARY = "tmp"
"""First letters of the names of temporary folders; those of ``tempfile``."""

logger = logging.getLogger(__name__)


class KernelsUnavailableError(RuntimeError):
    """There are no kernels in this process; the message says why, and what helps."""


class KernelFolder(NamedTuple):
    """The folder, open: another one that takes its path meanwhile is never read.

    Only this user may write the folder, so what was checked in it stays as it was. A library ``FILE.so`` lies beside
    its hash, ``FILE.sha256``.
    """

    path: Path
    descriptor: int

    @property
    def open_path(self) -> str:
        """Path of this very folder while it is open, also for the programs that this process starts."""
        return f"/proc/{os.readlink('/proc/self')}/fd/{self.descriptor}"

    def find_fault(self, file: str) -> str | None:
        """Return why a library cannot be loaded, such as "missing"; None if it can be.

        Raises:
            KernelsUnavailableError: If another user can have written it.
        """
        library, digest = self._read(f"{file}.so"), self._read(f"{file}.sha256")
        if library is None:
            return "missing"
        return None if digest == _digest(library) else "damaged"

    def load(self, file: str) -> ctypes.CDLL:
        """Load a library without a fault.

        Raises:
            KernelsUnavailableError: If the dynamic linker refuses it.
        """
        try:
            return ctypes.CDLL(f"{self.open_path}/{file}.so")
        except OSError as error:
            reason = str(error).replace(self.open_path, str(self.path))
            raise KernelsUnavailableError(f"the dynamic linker refuses the kernels: {reason}; {_CURE}") from error

    def require_executable(self) -> None:
        """Raise a KernelsUnavailableError if the system runs no code from here."""
        if os.fstatvfs(self.descriptor).f_flag & os.ST_NOEXEC:
            raise KernelsUnavailableError(f"{self.path} is on a file system that is mounted noexec; {_CURE}")

    @contextlib.contextmanager
    def lock(self, wait: bool = True) -> Iterator[bool]:
        """Lock the folder against other processes that compile, and yield whether that worked.

        Args:
            wait: Whether to wait until no other process has the lock; if so, it always works in the end.
        """
        import fcntl  # not on Windows

        descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=self.descriptor)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                logger.warning("Waiting for another process that compiles kernels.")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield True
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if this process has forked meanwhile
        finally:
            os.close(descriptor)

    def clear_leftovers(self) -> None:
        """Remove the folders of compilations that were killed; call it with the lock."""
        for name in self._leftovers():
            # A compiler that outlived its process may still write there; what is left then goes at the next start.
            shutil.rmtree(f"{self.open_path}/{name}", ignore_errors=True)

    def clear_leftovers_if_idle(self) -> None:
        """Remove the folders of compilations that were killed, unless a process compiles or the folder is read-only."""
        if self._leftovers():
            try:
                with self.lock(wait=False) as is_locked:
                    if is_locked:
                        self.clear_leftovers()
            except OSError as error:
                logger.debug("Leftovers of killed compilations stay in %s: %s", self.path, error)

    def keep(self, draft: Path) -> None:
        """Move a compiled library from a temporary folder in here, and write its hash beside it.

        Killed in between, it leaves a library that does not agree with its hash, which is not loaded.
        """
        inside, here = Path(draft.parent.name, draft.name), self.descriptor
        with open(os.open(inside, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here), "rb") as library:
            os.fchmod(library.fileno(), 0o600)
            digest = _digest(library.read())
        hash_file = inside.with_suffix(".sha256")
        with open(os.open(hash_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=here), "wb") as file:
            file.write(digest)
        for each in (inside, hash_file):
            os.replace(each, each.name, src_dir_fd=here, dst_dir_fd=here)

    def _leftovers(self) -> list[str]:
        return [name for name in os.listdir(self.descriptor) if name.startswith(_TEMPORARY)]

    def _read(self, name: str) -> bytes | None:
        """Return a file's bytes; none if it cannot be read, and None if it is not there."""
        try:
            status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return b""
        _require_private(status, self.path / name, "remove it")
        try:
            with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.descriptor), "rb") as file:
                return file.read()
        except PermissionError:
            return b""


def cache_folder() -> Path:
    """Return the path of the folder of compiled kernels, which follows XDG_CACHE_HOME.

    Raises:
        KernelsUnavailableError: If that is not set and this user has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genie-gym" / "kernels"
    except RuntimeError as error:
        raise KernelsUnavailableError(f"this user has no home folder to keep kernels in ({error}); {_CURE}") from error


@contextlib.contextmanager
def open_kernel_folder() -> Iterator[KernelFolder]:
    """Open the folder of compiled kernels, made if it is missing, and yield it.

    Raises:
        KernelsUnavailableError: If another user may write it, or it cannot be used, in here or in the block.
    """
    path = cache_folder()
    try:
        if not path.is_dir():
            for each in (*reversed(path.parents), path):
                each.mkdir(0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _require_private(os.fstat(descriptor), path, "take away that permission with chmod go-w")
            yield KernelFolder(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelsUnavailableError(f"the folder of kernels {path} cannot be used: {error}; {_CURE}") from error


def _require_private(status: os.stat_result, path: Path, cure: str) -> None:
    """Raise a KernelsUnavailableError if another user owns a file or folder, or may write it."""
    user = os.geteuid()
    if status.st_uid != user:
        raise KernelsUnavailableError(f"{path} belongs to user {status.st_uid}, and this is user {user}; {_CURE}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.filemode(status.st_mode)
        raise KernelsUnavailableError(f"other users may write {path} ({mode}); {cure}, or {_CURE}")


def _digest(library: bytes) -> bytes:
    return hashlib.sha256(library).hexdigest().encode() + b"\n"
