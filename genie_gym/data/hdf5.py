"""Reading HDF5 files of others: no link to another file is followed, and no claim beyond the file's size believed."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from genie_gym.data.heap_texts import read_attribute_text, read_dataset_text
from genie_gym.foreign import explain_head

_INFLATION = 1100
"""More than the largest factor by which gzip shrinks a block (1032)."""
_MOST_BYTES = 1 << 16
"""Largest size of an attribute, by the format."""
_LINK_INFO = 1 << 2
"""Bit of a group's header that says that it is of the newer kind, which may keep names in a heap."""


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
def name_faults(what: Path | str) -> Iterator[None]:
    """Turn every exception inside the context into a ``ValueError`` that begins with the name of what is read."""
    try:
        yield
    except Exception as error:  # damaged files make HDF5 raise nearly anything
        if isinstance(error, ValueError) and str(error).startswith(str(what)):
            raise
        raise ValueError(f"{what}: is damaged ({error})") from error


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes of a file, each a text or a number; ``ValueError`` for others."""
    _require_header(file)
    values: dict[str, Any] = {}
    for name in file.attrs:
        with name_faults(f"attribute {name!r}"):
            values[name] = _read_attribute(file, name)
    return values


def _read_attribute(file: h5py.File, name: str) -> Any:
    kind = file.attrs.get_id(name)
    text = h5py.check_string_dtype(kind.dtype)
    is_small = kind.shape == () and kind.dtype.itemsize <= _MOST_BYTES
    if not is_small or (text is None and kind.dtype.kind not in "biuf"):
        raise ValueError(f"attribute {name!r} must be a text or a number, got {kind.shape} {kind.dtype}")
    if text is None:
        return file.attrs[name]
    return read_attribute_text(Path(file.filename), name) if text.length is None else file.attrs[name].decode("utf-8")


def take_dataset(group: h5py.Group, name: str, in_chunks: bool = False) -> h5py.Dataset | None:
    """Return a dataset that the file itself holds, None if there is none of this name.

    Args:
        group: Where to look for it.
        name: Its name.
        in_chunks: Whether it may lie in chunks, which HDF5 would unpack to any size; the caller unpacks them.

    Raises:
        ValueError: If it is a link, or lies in other files (virtual, or external storage), or is larger than what the
            file can hold, or lies in chunks unasked.
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
    else:  # a chunk of 16 takes more bytes in the index alone
        fits = in_chunks and size <= _INFLATION * room and len(found) <= room
    if not fits or (is_text and found.shape != ()):
        layout = "" if found.chunks is None else f" in chunks of {found.chunks}"
        raise ValueError(
            f"{name} must be held whole, got {found.shape} {found.dtype}{layout} in a file of {room} bytes"
        )
    return found


def take_group(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return a group that the file itself holds, None if there is none; ``ValueError`` if it is a link."""
    return _take(group, name, h5py.Group)


def _take(group: h5py.Group, name: str, kind: type) -> Any:
    _require_header(group)
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} must lie in the file itself, got a link to {getattr(link, 'path', 'elsewhere')!r}")
    found = group[name]
    if not isinstance(found, kind):
        raise ValueError(f"{name} must be a {kind.__name__.lower()}, got {found}")
    return found


def _require_header(group: h5py.Group) -> None:
    """Raise ``ValueError`` unless names and attributes lie in the header, since heaps may be packed and vast."""
    about = h5py.h5o.get_info(group.id)
    names = about.meta_size.obj.heap_size if about.hdr.mesg.present & _LINK_INFO else 0
    if names or about.meta_size.attr.heap_size:
        raise ValueError(f"group {group.name} must hold names and attributes in its header, got some in a heap")


def read_text(group: h5py.Group, name: str) -> Any:
    """Return the JSON values of a text that the file holds; ``ValueError`` if there is none."""
    with name_faults(name):
        found = take_dataset(group, name)
        text = None if found is None else h5py.check_string_dtype(found.dtype)
        if found is None or text is None or found.shape != ():
            raise ValueError(f"{name} must be a text, got {found}")
        if text.length is None:
            return json.loads(read_dataset_text(Path(group.file.filename), found.id.get_offset()))
        return json.loads(found[()].decode("utf-8"))
