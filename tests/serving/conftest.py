"""Fixtures of the kernel tests: no gradients, skips for types that the processor lacks, tolerances, a tiny library."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genie_gym.serving import build, kernels
from genie_gym.serving.libraries import transformer_library
from tests.serving.tiny_library import Tiny

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 4e-2}
"""Allowed error of values around 1: a few units in the last place of each type."""


@pytest.fixture(autouse=True)
def without_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test without gradients; skip it if this machine has no kernels for its type."""
    callspec = getattr(request.node, "callspec", None)
    dtype = torch.float32 if callspec is None else callspec.params.get("dtype", torch.float32)
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels")
    if not kernels.can_multiply(dtype):
        pytest.skip(f"no instructions for {dtype} here")
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def tolerances() -> dict[torch.dtype, float]:
    return TOLERANCES


@pytest.fixture(scope="session")
def assert_near() -> Callable[[Tensor, Tensor, torch.dtype], None]:
    """Check a tensor's type, and its values within the type's tolerance."""

    def check(one: Tensor, other: Tensor, dtype: torch.dtype) -> None:
        assert one.dtype == dtype
        torch.testing.assert_close(one.float(), other.float(), atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])

    return check


@pytest.fixture(scope="session")
def emulated() -> object:
    """The kernels with functions that emulate the processor's tiles (AMX)."""
    library = transformer_library(24, 24, "EMULATE_TILES=1")
    if library is None or library.genie_lanes() != 16:
        pytest.skip("emulated tiles need vectors of 16 floats")
    return library


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
