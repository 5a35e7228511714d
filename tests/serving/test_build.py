"""Compiling the kernels: once, with a message, from a folder that only this user may write, else PyTorch plays."""

import contextlib
import importlib.util
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genie_gym.serving import build, kernel_folder
from genie_gym.serving.kernel_folder import KernelFolder

load_library = build.load_library.__wrapped__
HANG = 300
"""Seconds after which a test has hung."""
STRANGER = 12345
"""Number of a user who is not this one."""
SOURCE = """// {here}
#include <cstdio>
__attribute__((constructor)) static void mark() {{ std::fclose(std::fopen("{here}/ran", "w")); }}
extern "C" int answer() {{ return {answer}; }}
"""
"""A library of a test's own; it leaves a file behind when it is loaded."""
LOAD = """
import sys
from pathlib import Path
from genie_gym.serving import build
build._SOURCES = Path(sys.argv[1])
(build._SOURCES / "ready").mkdir(exist_ok=True)
(build._SOURCES / "ready" / str(__import__("os").getpid())).touch()
library = build.load_library("tiny")
print(None if library is None else library.answer())
"""


class Tiny:
    """A source, and the folder in which its library is kept."""

    def __init__(self, here: Path) -> None:
        self.here, self.ran, self.sources = here, here / "ran", here / "native"
        self.folder = here / "cache" / "genie-gym" / "kernels"
        self.sources.mkdir()
        self.write(42)

    def write(self, answer: int) -> None:
        (self.sources / "tiny.cpp").write_text(SOURCE.format(here=self.here, answer=answer))

    def compile(self) -> Path:
        """Compile without loading, and return the library."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KernelFolder, "load", lambda *_: None)
            load_library("tiny")
        (library,) = self.folder.glob("*.so")
        assert not self.ran.exists()
        return library

    def start(self, *before: str, **environment: str) -> "subprocess.Popen[str]":
        """Load the library in another process, which prints its answer."""
        command = [*before, sys.executable, "-c", LOAD, str(self.sources)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env={**os.environ, **environment}, **pipes)

    def run(self, *before: str, **environment: str) -> tuple[str, str]:
        """Return output and messages of another process that loads the library."""
        output, messages = self.start(*before, **environment).communicate(timeout=HANG)
        return output.strip(), messages


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    tiny = Tiny(tmp_path)
    monkeypatch.setattr(build, "_SOURCES", tiny.sources)
    monkeypatch.setattr(build, "OUTCOMES", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CXX", build.SWITCH):
        monkeypatch.delenv(name, raising=False)
    build._warn.cache_clear()
    yield tiny
    build._warn.cache_clear()


@pytest.fixture
def make_compiler(tmp_path: Path) -> Callable[[str, str], str]:
    """Return a function that writes a script and returns its path."""

    def make(name: str, script: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def as_plain_user() -> tuple[str, ...]:
    """Return the words before a command in which root, too, needs the permission to read and to write."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may read and write everything, and there is no setpriv to change that")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file or folder another user's; if this is not root, make this process another user instead."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG
    while not holds():
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.02)


def assert_refused(caplog: pytest.LogCaptureFixture, *words: str) -> None:
    """Check that there is no library, and that one warning says so with these words."""
    caplog.clear()
    assert load_library("tiny") is None
    (message,) = caplog.messages
    assert message.startswith("PyTorch alone plays worlds, slower: ")
    assert build.OUTCOMES["tiny.cpp"] in message
    for word in words:
        assert word in message


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )


HAS_KERNELS = "import torch; from genie_gym.serving.libraries import rows_library; print(rows_library() is not None)"


def test_kernels_are_compiled_once_with_a_message(tmp_path: Path) -> None:
    first, second = (run_python(HAS_KERNELS, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
    assert first.stdout.split() == second.stdout.split() == ["True"]
    assert "Compiling rows.cpp" in first.stderr
    assert "Compiling" not in second.stderr
    names = sorted(path.suffix or path.name for path in (tmp_path / "genie-gym" / "kernels").iterdir())
    assert names == [".sha256", ".so", "lock"]


def test_kernels_can_be_switched_off(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "off")
    assert load_library("tiny") is None
    assert build.OUTCOMES == {"tiny.cpp": "GENIE_GYM_KERNELS=off"}
    assert not tiny.folder.exists()


def test_an_unknown_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "perhaps")
    with pytest.raises(ValueError, match=f"{build.SWITCH} must be on, off or no-tiles, got 'perhaps'"):
        load_library("rows")


def test_tiles_can_be_switched_off(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """``no-tiles`` compiles the kernels without AMX; libraries with and without it are files of their own."""
    commands: list[list[str]] = []
    monkeypatch.setattr(build, "compile_library", lambda command, *_: commands.append(command))
    monkeypatch.setattr(KernelFolder, "load", lambda folder, file: file)
    files = set()
    for switch in ("on", "no-tiles"):
        monkeypatch.setenv(build.SWITCH, switch)
        files.add(load_library("tiny"))
    assert ["-DNO_TILES=1" in command for command in commands] == [False, True]
    assert len(files) == 2


def test_kernels_without_tiles_multiply(tmp_path: Path) -> None:
    """Also on a processor with AMX."""
    code = (
        "import torch; from genie_gym.serving.libraries import rows_library, tiles_are_right as are_right;"
        "print(rows_library().genie_has_tiles(), are_right(rows_library()))"
    )
    done = run_python(code, XDG_CACHE_HOME=str(tmp_path), **{build.SWITCH: "no-tiles"})
    assert done.stdout.split() == ["0", "True"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-compiler -x", ("no C++ compiler", "no-such-compiler is not found")),
        ("false", ("false failed", "exit status 1")),
        ("true", ("true failed", "exit status 0")),
        ("'g++", ("CXX", "No closing quotation")),
    ],
)
def test_without_a_compiler_pytorch_plays(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, command: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CXX", command)
    with caplog.at_level(logging.WARNING):
        load_library("tiny")
        reason, message = build.OUTCOMES["tiny.cpp"], caplog.messages[-1]
    assert message == f"PyTorch alone plays worlds, slower: {reason}."
    for word in words:
        assert word in reason
    assert not list(tiny.folder.glob("*.so"))


def test_a_program_that_cannot_be_run_is_no_compiler(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "g++").write_bytes(b"\x7fELF no program")
    (tmp_path / "g++").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    assert load_library("tiny") is None
    assert "cannot be run" in build.OUTCOMES["tiny.cpp"]


def test_compiler_errors_are_logged(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    (tiny.sources / "tiny.cpp").write_text("int broken(")
    assert load_library("tiny") is None
    assert "g++ failed to compile tiny.cpp" in caplog.text
    assert "error: expected" in caplog.text
    assert sorted(path.name for path in tiny.folder.iterdir()) == ["lock"]


def test_each_cause_is_logged_once(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    shutil.copy(tiny.sources / "tiny.cpp", tiny.sources / "other.cpp")
    assert [load_library(name) for name in ("tiny", "other")] == [None, None]
    assert len(caplog.messages) == 1
    assert build.OUTCOMES["tiny.cpp"] == build.OUTCOMES["other.cpp"]


def test_a_compiler_of_two_words_compiles(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, make_compiler: Callable[[str, str], str]
) -> None:
    """``CXX="ccache g++"``."""
    ccache = make_compiler("ccache", f'echo "$1" >> {tiny.here}/called; exec "$@"')
    monkeypatch.setenv("PATH", f"{Path(ccache).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CXX", "ccache g++")
    assert load_library("tiny").answer() == 42
    assert build.OUTCOMES == {"tiny.cpp": "loaded, compiled now"}
    assert (tiny.here / "called").read_text() == "g++\n"


def test_kernels_compiled_before_need_no_compiler(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.compile()
    monkeypatch.setenv("PATH", "")
    assert load_library("tiny").answer() == 42
    assert build.OUTCOMES == {"tiny.cpp": "loaded, compiled before"}
    tiny.write(43)
    assert load_library("tiny") is None
    assert "g++ is not found" in build.OUTCOMES["tiny.cpp"]


def test_a_file_in_place_of_the_folder(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    (tiny.here / "cache").touch()
    assert_refused(caplog, str(tiny.folder), "File exists", "set XDG_CACHE_HOME")


def test_a_user_without_a_home(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)
    assert_refused(caplog, "no home folder", "set XDG_CACHE_HOME")


def test_a_linker_that_refuses(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As a security module does on a file system that is not mounted noexec."""
    library = tiny.compile()

    def refuse(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(kernel_folder.ctypes, "CDLL", refuse)
    assert_refused(caplog, f"{library}: failed to map segment")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting needs root and unshare")
def test_a_file_system_mounted_noexec(tiny: Tiny) -> None:
    (tiny.here / "cache").mkdir()
    mount = f'mount -t tmpfs -o noexec none {tiny.here}/cache || exit 99; exec "$@"'
    process = tiny.start("unshare", "--mount", "sh", "-c", mount, "sh")
    output, messages = process.communicate(timeout=HANG)
    if process.returncode == 99:
        pytest.skip(f"this machine forbids to mount: {messages}")
    assert output.split() == ["None"], messages
    assert "mounted noexec; set XDG_CACHE_HOME" in messages
    assert "Compiling" not in messages


def test_an_unwritable_cache(tiny: Tiny, as_plain_user: tuple[str, ...]) -> None:
    tiny.folder.mkdir(parents=True)
    tiny.folder.chmod(0o500)
    output, messages = tiny.run(*as_plain_user)
    assert output == "None"
    assert f"{tiny.folder} cannot be used: [Errno 13] Permission denied" in messages


def test_a_read_only_cache_with_good_kernels_is_used(tiny: Tiny, as_plain_user: tuple[str, ...]) -> None:
    """Although it also has leftovers, which cannot be cleared."""
    tiny.compile()
    (tiny.folder / "tmpleft").mkdir()
    (tiny.folder / "lock").unlink()
    tiny.folder.chmod(0o500)
    output, messages = tiny.run(*as_plain_user)
    assert output == "42"
    assert "PyTorch alone" not in messages
    assert (tiny.folder / "tmpleft").exists()


def empty(library: Path) -> None:
    library.write_bytes(b"")


def truncate(library: Path) -> None:
    os.truncate(library, library.stat().st_size // 2)


def randomise(library: Path) -> None:
    library.write_bytes(os.urandom(200))


def change_a_byte(library: Path) -> None:
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def remove_the_hash(library: Path) -> None:
    library.with_suffix(".sha256").unlink()


def empty_the_hash(library: Path) -> None:
    library.with_suffix(".sha256").write_bytes(b"")


def link_elsewhere(library: Path) -> None:
    library.rename(library.parents[3] / "elsewhere.so")
    library.symlink_to(library.parents[3] / "elsewhere.so")


def make_a_pipe(library: Path) -> None:
    library.unlink()
    os.mkfifo(library)


DAMAGES = (empty, truncate, randomise, change_a_byte, remove_the_hash, empty_the_hash, link_elsewhere, make_a_pipe)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_compiled_again(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    library = tiny.compile()
    damage(library)
    caplog.clear()
    assert load_library("tiny").answer() == 42
    assert len(caplog.messages) == 1
    assert "Compiling tiny.cpp for this processor, since its library is damaged" in caplog.text
    assert library.is_file()
    assert not library.is_symlink()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_without_a_compiler(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    damage(tiny.compile())
    monkeypatch.setenv("PATH", "")
    assert_refused(caplog, "no C++ compiler: g++ is not found")
    assert not tiny.ran.exists()


def test_an_unreadable_library_is_compiled_again(tiny: Tiny, as_plain_user: tuple[str, ...]) -> None:
    library = tiny.compile()
    library.chmod(0)
    output, messages = tiny.run(*as_plain_user)
    assert output == "42"
    assert "Compiling tiny.cpp" in messages
    assert "damaged" in messages


@pytest.mark.parametrize("place", ["library", "hash", "folder"])
def test_a_library_of_another_user_is_not_loaded(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    library = tiny.compile()
    path = {"library": library, "hash": library.with_suffix(".sha256"), "folder": tiny.folder}[place]
    content = library.read_bytes()
    user = os.geteuid()
    give_away(path, monkeypatch)
    assert_refused(caplog, f"belongs to user {STRANGER if user == 0 else user}", "set XDG_CACHE_HOME")
    assert library.read_bytes() == content
    assert not tiny.ran.exists()


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("place", ["library", "hash", "folder"])
def test_a_library_that_others_may_write_is_not_loaded(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, place: str, mode: int
) -> None:
    library = tiny.compile()
    path = {"library": library, "hash": library.with_suffix(".sha256"), "folder": tiny.folder}[place]
    path.chmod(path.stat().st_mode | mode)
    content = library.read_bytes()
    assert_refused(caplog, f"other users may write {path}", "set XDG_CACHE_HOME")
    assert library.read_bytes() == content
    assert not tiny.ran.exists()
    path.chmod(0o700)
    assert load_library("tiny").answer() == 42
    assert tiny.ran.exists(), "or the checks above check nothing"


def test_a_link_in_place_of_the_folder_is_not_followed(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    tiny.compile()
    tiny.folder.rename(tiny.here / "elsewhere")
    tiny.folder.symlink_to(tiny.here / "elsewhere")
    assert_refused(caplog, str(tiny.folder), "Not a directory")
    assert not tiny.ran.exists()


def test_a_folder_that_is_swapped_after_the_check_is_not_read(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user who may rename the folder's parent puts a library of his own at the same path."""
    library = tiny.compile()
    find_fault = KernelFolder.find_fault

    def find_and_swap(folder: KernelFolder, file: str) -> str | None:
        fault = find_fault(folder, file)
        tiny.folder.rename(tiny.here / "elsewhere")
        tiny.folder.mkdir()
        library.write_bytes(b"a library of another user")
        return fault

    monkeypatch.setattr(KernelFolder, "find_fault", find_and_swap)
    assert load_library("tiny").answer() == 42


def test_a_folder_that_is_swapped_while_compiling_is_not_written(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, make_compiler: Callable[[str, str], str]
) -> None:
    swap = f'mv {tiny.folder} {tiny.here}/elsewhere; mkdir {tiny.folder}; exec g++ "$@"'
    monkeypatch.setenv("CXX", make_compiler("swapping", swap))
    assert load_library("tiny").answer() == 42
    assert list(tiny.folder.iterdir()) == []


def test_a_careless_umask_changes_no_permission(tiny: Tiny) -> None:
    previous = os.umask(0)
    try:
        tiny.compile()
    finally:
        os.umask(previous)
    modes = {path.name.partition(".")[2]: path.stat().st_mode & 0o777 for path in tiny.folder.iterdir()}
    assert modes == {"so": 0o600, "sha256": 0o600, "": 0o600}
    folders = [folder.stat().st_mode & 0o777 for folder in (tiny.folder, *tiny.folder.parents[:2])]
    assert folders == [0o700] * 3


@contextlib.contextmanager
def killed_while_compiling(tiny: Tiny, compiler: str) -> Iterator[list[Path]]:
    """Yield the leftovers of a process that is killed while its compiler works; the compiler outlives it."""
    process = tiny.start(CXX=compiler)
    try:
        wait_until(lambda: (tiny.here / "compiler").exists() and (tiny.here / "compiler").read_text())
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=HANG)
        yield list(tiny.folder.glob("tmp*"))
    finally:
        process.kill()
        os.kill(int((tiny.here / "compiler").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("has_kernels", [False, True])
def test_leftovers_of_a_killed_compilation_are_cleared_by_the_next_start(
    tiny: Tiny, make_compiler: Callable[[str, str], str], has_kernels: bool
) -> None:
    if has_kernels:
        tiny.compile()
    compiler = make_compiler("slow", "touch $TMPDIR/half; echo $$ > " + f"{tiny.here}/compiler; exec sleep 600")
    with killed_while_compiling(tiny, compiler) as leftovers:
        assert [(folder / "half").exists() for folder in leftovers] == [True]
        assert load_library("tiny").answer() == 42
        assert not list(tiny.folder.glob("tmp*"))


def test_a_start_clears_nothing_while_another_process_compiles(tiny: Tiny) -> None:
    tiny.compile()
    with kernel_folder.open_kernel_folder() as folder, folder.lock():
        (tiny.folder / "tmpdraft").mkdir()
        assert load_library("tiny").answer() == 42
        assert (tiny.folder / "tmpdraft").exists()
    assert load_library("tiny").answer() == 42
    assert not (tiny.folder / "tmpdraft").exists()


def test_processes_that_start_at_once_compile_once(tiny: Tiny, make_compiler: Callable[[str, str], str]) -> None:
    """The compiler waits until all of them have begun."""
    count = 3
    script = f"""echo called >> {tiny.here}/called
    while [ $(ls {tiny.sources}/ready | wc -l) -lt {count} ]; do sleep 0.05; done
    sleep 0.5
    exec g++ "$@" """
    compiler = make_compiler("waiting", script)
    processes = [tiny.start(CXX=compiler) for _ in range(count)]
    answers = [process.communicate(timeout=HANG) for process in processes]
    assert [output.strip() for output, _ in answers] == ["42"] * count, answers
    assert (tiny.here / "called").read_text().split() == ["called"]


def test_other_systems_have_no_kernels(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert load_library("tiny") is None
    assert build.OUTCOMES == {"tiny.cpp": "kernels need Linux, this is Windows"}


def test_the_modules_import_without_file_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has no fcntl."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for module in (kernel_folder, build):
        spec = importlib.util.spec_from_file_location("copy", module.__file__)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
