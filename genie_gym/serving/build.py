"""Compiling the C++ kernels for this machine, once, and loading them."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from genie_gym.serving.kernel_folder import KernelFolder, KernelsUnavailableError, open_kernel_folder
from genie_gym.system import describe_processor

SWITCH = "GENIE_GYM_KERNELS"
"""Environment variable: ``on`` (default), ``off`` (PyTorch only) or ``no-tiles`` (kernels without AMX tiles)."""

OUTCOMES: dict[str, str] = {}
"""Source and macros of each library that this process asked for -> "loaded" and since when, or why there is none."""

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
        The library; ``None`` if kernels are switched off, on systems other than Linux, or if they cannot be compiled,
        kept or loaded. The last logs a warning; ``OUTCOMES`` has the reason of each.

    Raises:
        ValueError: If the environment variable ``GENIE_GYM_KERNELS`` has an unknown value.
    """
    switch = os.environ.get(SWITCH, "on")
    if switch not in {"on", "off", "no-tiles"}:
        raise ValueError(f"{SWITCH} must be on, off or no-tiles, got {switch!r}")
    if switch == "no-tiles":
        definitions = (*definitions, "NO_TILES=1")
    wanted = " ".join([f"{name}.cpp", *definitions])
    if switch == "off" or platform.system() != "Linux":
        OUTCOMES[wanted] = f"{SWITCH}=off" if switch == "off" else f"kernels need Linux, this is {platform.system()}"
        return None
    try:
        library, is_new = _find_library(name, definitions)
    except KernelsUnavailableError as error:
        OUTCOMES[wanted] = str(error)
        _warn(str(error))
        return None
    OUTCOMES[wanted] = f"loaded, compiled {'now' if is_new else 'before'}"
    return library


@functools.cache
def _warn(reason: str) -> None:
    """Log, once, why PyTorch plays."""
    logger.warning("PyTorch alone plays worlds, slower: %s.", reason)


def _find_library(name: str, definitions: tuple[str, ...]) -> tuple[ctypes.CDLL, bool]:
    """Load a library from the folder of kernels, and return it with whether it was compiled for that.

    Raises:
        KernelsUnavailableError: If it cannot be compiled, kept or loaded.
    """
    flags = [*_FLAGS, *(f"-D{each}" for each in definitions)]
    file = f"{name}-{_fingerprint(name, flags)}"
    with open_kernel_folder() as folder:
        folder.require_executable()
        is_missing = folder.find_fault(file) is not None
        if is_missing:
            _compile_alone(_SOURCES / f"{name}.cpp", flags, folder, file)
        else:
            folder.clear_leftovers_if_idle()
        return folder.load(file), is_missing


def _fingerprint(name: str, flags: list[str]) -> str:
    """Return 16 hex digits that change with the sources, the command and the processor.

    The compiler's version is no part of them: kernels compiled before are used where the compiler is gone.
    """
    parts = [compiler_command(), *flags, str(sorted(describe_processor().items()))]
    sources = [each.read_bytes() for each in [_SOURCES / f"{name}.cpp", *sorted(_SOURCES.glob("*.h"))]]
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), *sources])).hexdigest()[:16]


def compiler_command() -> str:
    """Return the command of the C++ compiler: the value of CXX, which may have several words, or g++."""
    return os.environ.get("CXX", "").strip() or "g++"


def find_compiler() -> list[str]:
    """Return the words of the compiler's command, the program as a path.

    Raises:
        KernelsUnavailableError: If there is no such program.
    """
    try:
        words = shlex.split(compiler_command())
    except ValueError as error:
        raise KernelsUnavailableError(f"CXX must be a command, got {compiler_command()!r}: {error}") from error
    program = shutil.which(words[0])
    if program is None:
        raise KernelsUnavailableError(f"no C++ compiler: {words[0]} is not found; install g++, or set CXX to another")
    return [program, *words[1:]]


def _compile_alone(source: Path, flags: list[str], folder: KernelFolder, file: str) -> None:
    """Compile a library unless another process has done so while this one waited for the lock."""
    compiler = find_compiler()
    with folder.lock():
        folder.clear_leftovers()
        fault = folder.find_fault(file)
        if fault is not None:
            message = "Compiling %s for this processor, since its library is %s; it takes seconds (%s=off avoids it)."
            logger.warning(message, source.name, fault, SWITCH)
            compile_library([*compiler, *flags], source, folder, file)


def compile_library(command: list[str], source: Path, folder: KernelFolder, file: str) -> None:
    """Compile a source to a library in the folder of kernels.

    Raises:
        KernelsUnavailableError: If the compiler fails.
    """
    with tempfile.TemporaryDirectory(dir=folder.open_path) as drafts:  # the compiler's own temporary files go with it
        draft = Path(drafts) / f"{file}.so"
        run, environment = [*command, str(source), "-o", str(draft)], {**os.environ, "TMPDIR": drafts}
        try:
            done = subprocess.run(
                run,
                env=environment,
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise KernelsUnavailableError(f"{command[0]} cannot be run: {error}") from error
        if done.returncode != 0 or not draft.exists():
            reason = done.stderr.strip() or f"exit status {done.returncode}"
            raise KernelsUnavailableError(f"{command[0]} failed to compile {source.name}: {reason}")
        folder.keep(draft)
