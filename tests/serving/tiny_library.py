"""A library of one function, the folder in which it is kept, and processes that load it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genie_gym.serving import build
from genie_gym.serving.kernel_folder import KernelFolder

load_library = build.load_library.__wrapped__
HANG = 300
"""Seconds after which a test has hung."""
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


def assert_refused(caplog: pytest.LogCaptureFixture, *words: str) -> None:
    """Check that there is no library, and that one warning says so with these words."""
    caplog.clear()
    assert load_library("tiny") is None
    (message,) = caplog.messages
    assert message.startswith("PyTorch alone plays worlds, slower: ")
    assert build.OUTCOMES["tiny.cpp"] in message
    for word in words:
        assert word in message
