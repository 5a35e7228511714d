"""Reading HDF5 files of others: no link to another file is followed, and no claim beyond the file's size believed."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from genie_gym.foreign import explain_head

_INFLATION = 1100
"""More than the largest factor by which gzip shrinks a block (1032)."""


@contextlib.contextmanager
def open_foreign(path: Path) -> Iterator[h5py.File]:
    """Open a file to be read; whatever goes wrong inside the context becomes a ``ValueError`` that names the file."""
    with name_faults(path), open_whole(path) as file:
        yield file


def open_whole(path: Path) -> h5py.File:
    """Open a file to be read; ``ValueError`` if it is no whole HDF5 file."""
    if what := explain_head(path):
        raise ValueError(f"{path}: not a whole HDF5 file: it is {what}")
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not a whole HDF5 file ({error})") from error


@contextlib.contextmanager
def name_faults(path: Path) -> Iterator[None]:
    """Turn every exception inside the context into a ``ValueError`` that begins with the file's name."""
    try:
        yield
    except Exception as error:  # damaged files make HDF5 raise nearly anything
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: is damaged ({error})") from error


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes of a file, each a text or a number; ``ValueError`` for others."""
    for name in file.attrs:
        kind = file.attrs.get_id(name)
        is_text = h5py.check_string_dtype(kind.dtype) is not None
        if kind.shape != () or not (is_text or kind.dtype.kind in "biuf"):
            raise ValueError(f"attribute {name!r} must be a text or a number, got {kind.shape} {kind.dtype}")
    return dict(file.attrs)


def take_dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """Return a dataset that the file itself holds, None if there is none of this name.

    Raises:
        ValueError: If it is a link, or lies in other files (virtual, or external storage), or is larger than what the
            file can hold.
    """
    found = _take(group, name, h5py.Dataset)
    if found is None:
        return None
    if found.is_virtual or found.external:
        raise ValueError(f"{name} must lie in the file itself, got a dataset that points to other files")
    room = Path(group.file.filename).stat().st_size
    is_text = h5py.check_string_dtype(found.dtype) is not None
    size = found.size * found.dtype.itemsize if found.size else 0
    if found.chunks is None:
        fits = size <= min(room, found.id.get_storage_size())
    else:
        fits = size <= _INFLATION * room and len(found) <= room  # a chunk of 16 takes more bytes in the index alone
    if not fits or (is_text and found.shape != ()):
        raise ValueError(f"{name} must be held whole, got {found.shape} {found.dtype} in a file of {room} bytes")
    return found


def take_group(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return a group that the file itself holds, None if there is none; ``ValueError`` if it is a link."""
    return _take(group, name, h5py.Group)


def _take(group: h5py.Group, name: str, kind: type) -> Any:
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} must lie in the file itself, got a link to {getattr(link, 'path', 'elsewhere')!r}")
    found = group[name]
    if not isinstance(found, kind):
        raise ValueError(f"{name} must be a {kind.__name__.lower()}, got {found}")
    return found


def read_text(group: h5py.Group, name: str) -> Any:
    """Return the JSON values of a text that the file holds; ``ValueError`` if there is none."""
    found = take_dataset(group, name)
    if found is None or found.shape != () or h5py.check_string_dtype(found.dtype) is None:
        raise ValueError(f"{name} must be a text, got {found}")
    return json.loads(found[()])
