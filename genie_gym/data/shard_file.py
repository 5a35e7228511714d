"""HDF5 files that are written whole or not at all, also on a full disk."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genie_gym.checks import require
from genie_gym.system import replace_file

_ATTRIBUTE_BYTES = 64_000
"""Largest size of a text in an attribute; HDF5 takes 64 KiB with the name."""


class _PatientFile(io.FileIO):
    """A file for HDF5 that keeps the first error of writing and does not raise it.

    HDF5 crashes if it cannot write a file that it closes. What follows the error is lost, so whoever writes has to call
    ``require_written``.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, unless writing has failed."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest):
            written = self._try(super().write, rest)
            if written is None:
                break
            rest = rest[written:]
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size of the file, unless writing has failed."""
        self._try(super().truncate, size)
        return self.tell() if size is None else size

    def require_written(self) -> None:
        """Raise the error of writing, if there was one."""
        if self.error is not None:
            raise self.error

    def _try(self, act: Callable[[Any], int | None], value: Any) -> int | None:
        if self.error is None:
            try:
                return act(value)
            except OSError as error:
                self.error = error
        return None


@contextlib.contextmanager
def create_hdf5(path: Path, **options: Any) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Create an HDF5 file, which replaces the file at ``path`` when it is whole.

    Args:
        path: File to write.
        **options: Options of ``h5py.File``.

    Yields:
        The file to fill, and a function that raises the error if the disk is full. The end of the context calls it
        too; call it in between to give up early.

    Raises:
        OSError: Naming ``path``, if the file cannot be written.
    """
    with replace_file(path) as temporary, contextlib.closing(_PatientFile(temporary, "w+")) as raw:
        try:
            with h5py.File(raw, "w", **options) as file:
                yield file, raw.require_written
        finally:
            raw.require_written()


def write_attributes(file: h5py.File, values: Mapping[str, str | int]) -> None:
    """Write attributes of a file, texts with a fixed length: HDF5 reads others of any length that they claim.

    Raises:
        ValueError: If a text is too long, or holds a zero byte.
    """
    for name, value in values.items():
        if isinstance(value, str):
            text = _fix_text(name, value)
            rule = f"a text of at most {_ATTRIBUTE_BYTES} bytes"
            require(text.dtype.itemsize <= _ATTRIBUTE_BYTES, f"attribute {name!r}", value, rule)
            file.attrs.create(name, text, dtype=text.dtype)
        else:
            file.attrs[name] = value


def write_text(file: h5py.File, name: str, value: str) -> None:
    """Write a dataset that is a text of any length; errors as of ``write_attributes``."""
    file.create_dataset(name, data=_fix_text(name, value))


def _fix_text(name: str, value: str) -> np.ndarray:
    """Return a text as () bytes of a fixed length, which HDF5 knows as UTF-8."""
    require("\0" not in value, name, value, "without zero bytes")
    encoded = value.encode("utf-8")
    return np.array(encoded, h5py.string_dtype("utf-8", max(1, len(encoded))))
