"""Compile the kernels for this very machine, once, and load them."""

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
"""Environment variable, ``on`` or ``off``, which leaves everything to PyTorch."""

SOURCES = Path(__file__).parent / "native"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")

logger = logging.getLogger(__name__)


@functools.cache
def load_library(name: str, *definitions: str) -> ctypes.CDLL | None:
    """A library of kernels, compiled if this machine has not done so before.

    Args:
        name: Of the source, without its suffix.
        definitions: Of macros, ``NAME=value``.

    Returns:
        ``None`` where there are to be none: switched off, not Linux, or no compiler. The last is logged as a
        warning; so is a source that does not compile.

    Raises:
        ValueError: If the switch is neither on nor off.
    """
    switch = os.environ.get(SWITCH, "on")
    if switch not in {"on", "off"}:
        raise ValueError(f"{SWITCH} must be on or off, got {switch!r}")
    if switch == "off" or platform.system() != "Linux":
        return None
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        logger.warning("No C++ compiler found (g++, or what CXX names): worlds are played by PyTorch alone, slower.")
        return None
    command = [compiler, *FLAGS, *(f"-D{each}" for each in definitions)]
    path = cache_folder() / f"{name}-{_fingerprint(name, command)}.so"
    if not path.exists() and not compile_library(command, SOURCES / f"{name}.cpp", path):
        return None
    return ctypes.CDLL(str(path))


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genie-gym" / "kernels"


def _fingerprint(name: str, command: list[str]) -> str:
    """Of all that the result hangs on: sources, flags, compiler and processor."""
    version = subprocess.run([command[0], "--version"], check=False, capture_output=True).stdout
    processor = sorted(describe_processor().items())
    parts = [*(part.encode() for part in command), version, str(processor).encode()]
    parts += [each.read_bytes() for each in [SOURCES / f"{name}.cpp", *sorted(SOURCES.glob("*.h"))]]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compile_library(command: list[str], source: Path, path: Path) -> bool:
    """Whether ``path`` is there now. It appears whole or not at all, however many processes try at once."""
    logger.warning("Compiling %s for this processor: once, seconds. %s=off does without.", source.name, SWITCH)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(dir=path.parent)
    except OSError as error:
        logger.warning("No place for it: worlds are played by PyTorch alone, slower. Set XDG_CACHE_HOME. %s", error)
        return False
    with holder as folder:
        draft = Path(folder) / path.name
        done = subprocess.run([*command, str(source), "-o", str(draft)], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            logger.warning("%s failed: worlds are played by PyTorch alone, slower.\n%s", command[0], done.stderr)
            return False
        draft.replace(path)
    return True
