"""Each program of docs/compatibility.md in an environment of its own, by ``make compat``; not part of ``make test``.

A test installs the packages of ``tests/compat/NAME.txt`` into ``build/compat/NAME`` once, runs the program there, and
writes what passed into ``experiments/results/compatibility.json``. Another folder of environments: ``COMPAT_ENVS``.
"""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from genie_gym.results.files import ROOT, read_results, write_results

PAGE = ROOT / "docs" / "compatibility.md"
RESULTS = ROOT / "experiments" / "results" / "compatibility.json"
ENVIRONMENTS = Path(os.environ.get("COMPAT_ENVS", ROOT / "build" / "compat"))
PROGRAM = re.compile(r"^## (\S+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAMS = dict(PROGRAM.findall(PAGE.read_text()))


def pins_of(name: str) -> Path:
    return Path(__file__).with_name(f"{name.lower().replace('-', '_')}.txt")


def versions_of(name: str) -> dict[str, str]:
    """Return the pinned versions that the table shows; CleanRL is copied and has none."""
    pins = dict(re.findall(r"^([\w.-]+)==(.+)$", pins_of(name).read_text(), re.MULTILINE))
    packages = {"library": name.lower().replace("_", "-"), "gymnasium": "gymnasium", "numpy": "numpy", "torch": "torch"}
    return {label: pins[package] for label, package in packages.items() if package != "cleanrl"}


def environment_of(name: str) -> Path:
    """Return the Python of a library's environment, which is made if its pins have changed."""
    pins = pins_of(name)
    folder = ENVIRONMENTS / pins.stem
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", pins]
        subprocess.run(install, check=True)
        stamp.write_text(pins.read_text())
    return python


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs(name: str, tmp_path: Path) -> None:
    python = environment_of(name)
    done = subprocess.run(
        [python, "-c", PROGRAMS[name]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MINARI_DATASETS_PATH": str(tmp_path / "minari")},
        capture_output=True,
        text=True,
        check=False,
    )
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    row = {"passed": done.returncode == 0, "python": python_version, **versions_of(name)}
    rows = read_results(RESULTS)["rows"] if RESULTS.exists() else {}
    write_results(RESULTS, {"rows": {**{each: rows[each] for each in PROGRAMS if each in rows}, name: row}})
    assert row["passed"], f"{done.stdout}\n{done.stderr}"
