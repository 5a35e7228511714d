"""Tests of the wheel's contents and of the files that describe it."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "genie_gym" / "weights"
MEBIBYTE = 2**20

SAME_KEY = {
    "packages.find": "packages",
    "package-data": "package-data",
    "install-requires": "dependencies",
    "extras-require": "optional-dependencies",
    "python-requires": "requires-python",
    "entry-points": "scripts",
    "long-description": "readme",
}
"""Names of keys in setup.cfg, with their names in pyproject.toml."""


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="in the standard library since Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel_files() -> list[str]:
    """Return the paths that setuptools would copy into a wheel, without building one."""
    code = (
        "from setuptools.dist import Distribution\n"
        "distribution = Distribution({'script_name': 'setup.py'})\n"
        "distribution.parse_config_files()\n"
        "command = distribution.get_command_obj('build_py')\n"
        "command.ensure_finalized()\n"
        "print('\\n'.join('file ' + path for path in command.get_outputs(include_bytecode=False)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [line.removeprefix("file build/lib/") for line in done.stdout.splitlines() if line.startswith("file ")]
    assert "genie_gym/configs.py" in paths
    return paths


def test_one_version(pyproject: dict[str, Any]) -> None:
    stated = re.findall(r'^__version__ = "(.+)"$', (ROOT / "genie_gym" / "__init__.py").read_text(), re.MULTILINE)
    cited = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert stated == cited == [pyproject["project"]["version"]]


def keys_of_setup_cfg(setup_cfg: configparser.ConfigParser) -> set[str]:
    keys = {key for section in ("metadata", "options") if section in setup_cfg for key in setup_cfg[section]}
    keys |= {section.removeprefix("options.") for section in setup_cfg.sections() if section.startswith("options.")}
    keys |= {f"tool.{section.removeprefix('tool:')}" for section in setup_cfg.sections()}
    return {SAME_KEY.get(key, key) for key in (key.replace("_", "-") for key in keys)}


def keys_of_pyproject(pyproject: dict[str, Any]) -> set[str]:
    tools = pyproject.get("tool", {})
    return {*pyproject["project"], *tools.get("setuptools", {}), *(f"tool.{tool}" for tool in tools)}


def test_no_key_is_in_both_files(pyproject: dict[str, Any], setup_cfg: configparser.ConfigParser) -> None:
    assert keys_of_setup_cfg(setup_cfg) & keys_of_pyproject(pyproject) == set()


@pytest.mark.parametrize(
    "twice",
    [
        "[metadata]\nversion = 1",
        "[options]\ninstall_requires = torch",
        "[options.entry_points]\na = b",
        "[tool:pytest]",
    ],
)
def test_a_key_in_both_files_is_caught(pyproject: dict[str, Any], twice: str) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(twice)
    assert len(keys_of_setup_cfg(parser) & keys_of_pyproject(pyproject)) == 1


def test_every_dependency_is_pinned(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    wanted = [line for line in wanted if not line.startswith("genie-gym") and 'python_version < "3.11"' not in line]
    names = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in wanted}
    pins = re.findall(r"^([\w.-]+)==[\w.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert names - {pin.lower().replace("_", "-") for pin in pins} == set()


def test_every_python_that_is_claimed_was_run(pyproject: dict[str, Any]) -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(pyproject["project"]["classifiers"]))
    rows = re.findall(r"^\| Linux \| (3\.\d+) \|(.*)$", (ROOT / "docs" / "platforms.md").read_text(), re.MULTILINE)
    assert claimed == sorted({version for version, row in rows if "whole suite" in row}, key=lambda text: int(text[2:]))
    assert pyproject["project"]["requires-python"] == f">={claimed[0]}"


def test_the_wheel_ships_genie_gym_alone(wheel_files: list[str]) -> None:
    assert {path.split("/")[0] for path in wheel_files} == {"genie_gym"}


def test_the_wheel_ships_all_of_genie_gym(wheel_files: list[str]) -> None:
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "genie_gym").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    missing = there - set(wheel_files)
    assert missing == set(), "a package without __init__.py, or a kind of file that is missing in setup.cfg"
    assert "genie_gym/py.typed" in there, "PEP 561: without it users see no types"


def test_the_shipped_weights_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()}
    assert [name for name, size in sizes.items() if size > 16 * MEBIBYTE] == []
    assert sum(sizes.values()) <= 60_000_000


def test_the_installed_command_exits_after_it_wrote_its_files(tmp_path: Path) -> None:
    """From a wheel, with the default number of threads, and with pipes that stay open as long as a process lives."""
    pytest.importorskip("pip", reason="builds and installs the wheel")
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT / "genie_gym", source / "genie_gym", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    install = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "-q", *install], check=True, capture_output=True, timeout=300)
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, site / "bin" / "genie-gym", "demo", "--frames", "2", "--out", "out"],
        cwd=tmp_path,
        env={**variables, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=450,
    )
    assert done.returncode == 0, done.stderr
    assert "see out/demo.png and out/demo.gif" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"demo.png", "demo.gif"}
