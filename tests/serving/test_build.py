"""Compiling the kernels: once, announced, and never a reason to fail."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genie_gym.serving import build

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )


ASK = "import torch; from genie_gym.serving.libraries import rows_library; print(rows_library() is not None)"


def test_they_are_compiled_once_and_it_is_said(tmp_path: Path) -> None:
    first, second = (run_python(ASK, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
    assert first.stdout.split() == second.stdout.split() == ["True"]
    assert "Compiling rows.cpp" in first.stderr
    assert "Compiling" not in second.stderr
    assert [path.suffix for path in (tmp_path / "genie-gym" / "kernels").iterdir()] == [".so"]


def test_they_can_be_switched_off(tmp_path: Path) -> None:
    done = run_python(ASK, XDG_CACHE_HOME=str(tmp_path), **{build.SWITCH: "off"})
    assert done.stdout.split() == ["False"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("compiler", "message"), [("no-such-compiler", "No C++ compiler"), ("false", "failed")])
def test_without_a_compiler_it_is_said_and_pytorch_plays(tmp_path: Path, compiler: str, message: str) -> None:
    done = run_python(ASK, XDG_CACHE_HOME=str(tmp_path), CXX=compiler)
    assert done.stdout.split() == ["False"]
    assert message in done.stderr


def test_without_a_place_it_is_said_and_pytorch_plays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_python(ASK, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.stdout.split() == ["False"]
    assert "No place for it" in done.stderr


def test_an_unknown_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "perhaps")
    with pytest.raises(ValueError, match=f"{build.SWITCH} must be on or off, got 'perhaps'"):
        build.load_library.__wrapped__("rows")


def test_a_source_that_does_not_compile_is_shown(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("int broken(")
    with caplog.at_level(logging.WARNING):
        assert not build.compile_library(["g++", "-shared"], source, tmp_path / "broken.so")
    assert "error" in caplog.text
    assert not (tmp_path / "broken.so").exists()
