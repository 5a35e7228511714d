"""Files that others wrote, checked before they are read: whether each is a file, how large, and what it looks like."""

import json
import stat
from pathlib import Path
from typing import Any

_JSON_BYTES = 1 << 24
"""Largest size of a JSON file, unless the caller knows a larger one."""
_HEADS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for: run git lfs pull",
    b"<!doctype": "a web page, not a file that was downloaded",
    b"<html": "a web page, not a file that was downloaded",
    b"<?xml": "an XML document, such as the error of a server",
    b"pk\x03\x04": "a zip archive or a pickle of PyTorch, which is never opened",
    b"\x80\x02": "a pickle, which is never opened",
    b"\x80\x03": "a pickle, which is never opened",
    b"\x80\x04": "a pickle, which is never opened",
    b"\x80\x05": "a pickle, which is never opened",
}
"""First bytes of a file, in lower case -> what it is instead of the data that it was taken for."""


def require_file(path: Path, most: int | None = None) -> None:
    """Raise ``ValueError`` unless a path is a regular file of at most ``most`` bytes."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # a ValueError is a name with a zero byte
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: must be a regular file, got a folder, a pipe or a device")
    if most is not None and found.st_size > most:
        raise ValueError(f"{path}: must be a file of at most {most} bytes, got {found.st_size}")


def explain_head(path: Path) -> str | None:
    """Return what a file is, if its first bytes say that it is a pointer, a page or a pickle; None for other files."""
    require_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    return next((what for first, what in _HEADS.items() if head.startswith(first)), None)


def read_json(path: Path, most: int = _JSON_BYTES) -> Any:
    """Return the values of a JSON file of at most ``most`` bytes; errors as of ``read_json_text``, or if it is no JSON.

    It may be nested too deeply to be read.
    """
    text = read_json_text(path, most)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{str(path)!r} is no JSON that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}") from error


def read_json_text(path: Path, most: int) -> str:
    """Return the text of a JSON file, whatever it says.

    Raises:
        ValueError: Naming the file, if it is no regular file, larger than ``most`` bytes, no UTF-8, or a web page.
    """
    if what := explain_head(path):
        raise ValueError(f"{str(path)!r} is no JSON: it is {what}")
    require_file(path, most)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}") from error
