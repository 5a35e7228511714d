"""Run docs/first_hour.md as somebody new would, and time each of its steps.

    python -m experiments.release.first_hour --preset full

``full`` builds the wheel, installs it with its extras into an empty environment, and runs the page's code there, in an
empty folder outside the clone and with empty caches. ``smoke`` runs the code in the present environment, with less
training. The hub is a stand-in on this machine.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from experiments.lib.hub_server import serve_hub
from experiments.lib.pages import RUNNABLE, find_blocks, write_block
from genie_gym.failures import tell_failures
from genie_gym.results.experiment import Experiment
from genie_gym.results.files import ROOT, require_writable

PAGE = ROOT / "docs" / "first_hour.md"
SMOKE = {
    "--frames 16": "--frames 2",
    "range(32)": "range(17)",
    "num_envs=16": "num_envs=2",
    "learning_rate=1e-3, n_epochs=4": "batch_size=48, n_epochs=1",
    "learn(16384)": "learn(48)",
    "--tokenizer-steps 100 --world-steps 1000": "--tokenizer-steps 4 --world-steps 4",
    "--clips 64 --starts 16 --passes-clips 4": "--clips 4 --starts 2 --passes-clips 2",
}
"""Text of the page -> what stands in its place in a smoke test."""
_INSTALL = "Install"
_PRELUDE = """
import os as _os, time as _time
_marks = []
def _mark(step):
    _marks.append((step, _time.monotonic(), sum(_os.times()[:4])))
    print(f"--- {step or 'done'}", flush=True)
"""
_END = """
_mark(None)
import json as _json
with open("marks.json", "w") as _file:
    _json.dump(_marks, _file)
"""


def write_program(text: str) -> str:
    """Return the code of a page as one program, which writes the time at the start of each section to marks.json."""
    program = _PRELUDE
    for section in text.split("\n## ")[1:]:
        program += f"\n_mark({section.splitlines()[0]!r})\n"
        program += "".join(write_block(*block) for block in find_blocks(section) if block[0] in RUNNABLE)
    return program + _END


def shorten(text: str) -> str:
    """Return a page with the sizes of a smoke test.

    Raises:
        ValueError: If the page lacks a text that ``SMOKE`` replaces.
    """
    for long, short in SMOKE.items():
        if long not in text:
            raise ValueError(f"page must hold {long!r}")
        text = text.replace(long, short)
    return text


@dataclass(frozen=True, kw_only=True)
class FirstHour(Experiment):
    """Run the page on the first hour from top to bottom, and time each step."""

    name: ClassVar[str] = "first_hour"

    def run(self) -> None:
        """Install, run the page and write a row for each step."""
        require_writable(self.json)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text, python, rows = PAGE.read_text(), Path(sys.executable), []
            if self.preset == "full":
                python, row = _install(folder)
                rows.append(row)
            else:
                text = shorten(text)
            rows += self._run_page(text, python, folder)
        self.write({"rows": rows, "cores": os.cpu_count()})

    def _run_page(self, text: str, python: Path, folder: Path) -> list[dict[str, Any]]:
        """Run a page's code in an empty folder and return a row for each step."""
        work = folder / "work"
        work.mkdir()
        with serve_hub() as hub:
            variables = {name: value for name, value in _bare().items() if not name.lower().endswith("_proxy")}
            variables |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_known", "HF_HUB_DISABLE_XET": "1"}
            variables |= {"HF_HOME": str(folder / "hub"), "MPLBACKEND": "agg"}
            variables["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
            if self.preset == "full":
                variables["XDG_CACHE_HOME"] = str(folder / "cache")  # kernels are compiled anew
            else:
                variables["PYTHONPATH"] = str(ROOT)
            subprocess.run([python, "-c", write_program(text)], cwd=work, env=variables, check=True)
        marks = json.loads((work / "marks.json").read_text())
        spans = itertools.pairwise(marks)
        return [_row(step, end - began, used - before) for (step, began, before), (_, end, used) in spans]


def _bare() -> dict[str, str]:
    """Return the environment variables without those by which an empty environment would find this clone."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def _install(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Install the wheel of this clone into an empty environment; return its Python, and the row of this step."""
    began, before = time.monotonic(), sum(os.times()[:4])
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True, env=_bare())
    (wheel,) = folder.glob("*.whl")
    pins: list[str | Path] = ["-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, "install", *pins, "torch"], check=True, env=_bare())
    subprocess.run([*pip, "install", *pins, f"{wheel}[sb3,hub]", "matplotlib"], check=True, env=_bare())
    row = _row(_INSTALL, time.monotonic() - began, sum(os.times()[:4]) - before)
    return python, {**row, "wheel_mb": round(wheel.stat().st_size / 1e6, 1)}


def _row(step: str, seconds: float, core_seconds: float) -> dict[str, Any]:
    return {"step": step, "seconds": round(seconds, 1), "core_seconds": round(core_seconds, 1)}


if __name__ == "__main__":
    with tell_failures("first_hour"):
        tyro.cli(FirstHour).run()
