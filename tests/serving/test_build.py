"""Compiling the kernels: once, with a message; without a compiler, PyTorch plays."""

import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genie_gym.serving import build, kernel_folder
from genie_gym.serving.kernel_folder import KernelFolder
from tests.serving.tiny_library import Tiny, load_library


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
