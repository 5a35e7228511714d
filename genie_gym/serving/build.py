"""Compiling the C++ kernels for this machine, once, and loading them."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from genie_gym.system import describe_processor

SWITCH = "GENIE_GYM_KERNELS"
"""Environment variable: ``on`` (default), ``off`` (PyTorch only) or ``no-tiles`` (kernels without AMX tiles)."""

_SOURCES = Path(__file__).parent / "native"
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-pthread", "-fPIC", "-shared")

logger = logging.getLogger(__name__)


@functools.cache
def load_library(name: str, *definitions: str) -> ctypes.CDLL | None:
    """Return a library of kernels, compiled if this machine has no current copy in its cache.

    Args:
        name: Name of the source without its suffix.
        definitions: Macros, ``NAME=value``.

    Returns:
        The library; ``None`` if kernels are switched off, on systems other than Linux, without a compiler, or if the
        source does not compile. The last two log a warning.

    Raises:
        ValueError: If the environment variable ``GENIE_GYM_KERNELS`` has an unknown value.
    """
    switch = os.environ.get(SWITCH, "on")
    if switch not in {"on", "off", "no-tiles"}:
        raise ValueError(f"{SWITCH} must be on, off or no-tiles, got {switch!r}")
    if switch == "no-tiles":
        definitions = (*definitions, "NO_TILES=1")
    if switch == "off" or platform.system() != "Linux":
        return None
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        logger.warning("No C++ compiler found (g++, or the value of CXX): PyTorch alone plays worlds, slower.")
        return None
    command = [compiler, *_FLAGS, *(f"-D{each}" for each in definitions)]
    path = cache_folder() / f"{name}-{_fingerprint(name, command)}.so"
    if not path.exists() and not compile_library(command, _SOURCES / f"{name}.cpp", path):
        return None
    return ctypes.CDLL(str(path))


def cache_folder() -> Path:
    """Return the folder of compiled kernels, which follows XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genie-gym" / "kernels"


def _fingerprint(name: str, command: list[str]) -> str:
    """Return 16 hex digits that change with the sources, flags, compiler and processor."""
    version = subprocess.run([command[0], "--version"], check=False, capture_output=True).stdout
    processor = sorted(describe_processor().items())
    parts = [*(part.encode() for part in command), version, str(processor).encode()]
    parts += [each.read_bytes() for each in [_SOURCES / f"{name}.cpp", *sorted(_SOURCES.glob("*.h"))]]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compile_library(command: list[str], source: Path, path: Path) -> bool:
    """Compile a source to ``path`` and return whether that worked.

    The file appears whole or not at all, even if several processes compile it at once.
    """
    logger.warning("Compiling %s for this processor once; it takes seconds (%s=off avoids it).", source.name, SWITCH)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(dir=path.parent)
    except OSError as error:
        logger.warning("No folder for it: PyTorch alone plays worlds, slower. Set XDG_CACHE_HOME. %s", error)
        return False
    with holder as folder:
        draft = Path(folder) / path.name
        done = subprocess.run([*command, str(source), "-o", str(draft)], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            logger.warning("%s failed: PyTorch alone plays worlds, slower.\n%s", command[0], done.stderr)
            return False
        draft.replace(path)
    return True
