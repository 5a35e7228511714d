"""The folder of the compiled kernels: unusable, read-only or damaged, and shared by processes that start at once."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genie_gym.serving import kernel_folder
from tests.serving.tiny_library import HANG, Tiny, assert_refused, load_library


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


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG
    while not holds():
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.02)


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
