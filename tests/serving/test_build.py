"""Compiling the kernels: once, with a message, and with PyTorch as the fallback."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genie_gym.serving import build


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
    assert [path.suffix for path in (tmp_path / "genie-gym" / "kernels").iterdir()] == [".so"]


def test_kernels_can_be_switched_off(tmp_path: Path) -> None:
    done = run_python(HAS_KERNELS, XDG_CACHE_HOME=str(tmp_path), **{build.SWITCH: "off"})
    assert done.stdout.split() == ["False"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("compiler", "message"), [("no-such-compiler", "No C++ compiler"), ("false", "failed")])
def test_without_a_compiler_pytorch_plays_with_a_warning(tmp_path: Path, compiler: str, message: str) -> None:
    done = run_python(HAS_KERNELS, XDG_CACHE_HOME=str(tmp_path), CXX=compiler)
    assert done.stdout.split() == ["False"]
    assert message in done.stderr


def test_without_a_cache_folder_pytorch_plays_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_python(HAS_KERNELS, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.stdout.split() == ["False"]
    assert "No folder for it" in done.stderr


def test_an_unknown_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "perhaps")
    with pytest.raises(ValueError, match=f"{build.SWITCH} must be on, off or no-tiles, got 'perhaps'"):
        build.load_library.__wrapped__("rows")


@pytest.mark.parametrize(("switch", "has_definition"), [("on", False), ("no-tiles", True)])
def test_tiles_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switch: str, has_definition: bool
) -> None:
    """``no-tiles`` compiles the kernels without AMX; libraries with and without it are files of their own."""
    commands: list[list[str]] = []
    monkeypatch.setenv(build.SWITCH, switch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "compile_library", lambda command, *paths: commands.append(command))
    assert build.load_library.__wrapped__("rows") is None
    assert ("-DNO_TILES=1" in commands[0]) == has_definition


def test_kernels_without_tiles_multiply(tmp_path: Path) -> None:
    """Also on a processor with AMX."""
    code = (
        "import torch; from genie_gym.serving.libraries import rows_library, tiles_are_right as are_right;"
        "print(rows_library().genie_has_tiles(), are_right(rows_library()))"
    )
    done = run_python(code, XDG_CACHE_HOME=str(tmp_path), **{build.SWITCH: "no-tiles"})
    assert done.stdout.split() == ["0", "True"]


def test_compiler_errors_are_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("int broken(")
    with caplog.at_level(logging.WARNING):
        assert not build.compile_library(["g++", "-shared"], source, tmp_path / "broken.so")
    assert "error" in caplog.text
    assert not (tmp_path / "broken.so").exists()
