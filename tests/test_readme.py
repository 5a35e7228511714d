"""What the README says is true: its code runs, its paths exist, its tables follow from the results."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.lib.readme_tables import PAGES, README, render

ROOT = Path(__file__).parent.parent
TEXT = README.read_text()


def test_its_python_runs_from_top_to_bottom(tmp_path: Path) -> None:
    program = "".join(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
    assert "gym.make(" in program
    assert "PPO(" in program
    done = subprocess.run(
        [sys.executable, "-c", program + "assert model.num_timesteps == 256\n"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_is_short_and_shows_the_world_first() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 150
    assert any("actions.gif" in line for line in lines[:12])
    assert "shipped before" not in TEXT


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_its_tables_agree_with_the_results(path: Path) -> None:
    assert render(path) == path.read_text(), "run python -m experiments.lib.readme_tables"


def test_its_commands_exist() -> None:
    from genie_gym.cli import COMMANDS

    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE))
    commands = set(re.findall(r"^genie-gym ([\w-]+)", TEXT, flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    assert {"play", "train", "evaluate"} <= commands <= set(COMMANDS)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_its_extras_are_those_of_the_package() -> None:
    extras = re.search(r"^Extras: (.+?)\n\n", TEXT, flags=re.DOTALL | re.MULTILINE)
    wanted = re.search(
        r"^\[project.optional-dependencies\]\n(.+?)\n\[",
        (ROOT / "pyproject.toml").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert extras
    assert wanted
    assert set(re.findall(r"`(\w+)`", extras[1])) == set(re.findall(r"^(\w+) = \[", wanted[1], flags=re.MULTILINE))


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", TEXT):
        assert (ROOT / link).exists(), link


def test_what_it_says_of_the_code_is_there() -> None:
    from genie_gym.models.dynamics import MaskGITDynamics

    assert "MaskGITDynamics.draw_mask" in TEXT
    assert hasattr(MaskGITDynamics, "draw_mask")
    for path in re.findall(r"`((?:genie_gym/)?\w+/\w+\.py)`", TEXT):
        assert (ROOT / path).exists() or (ROOT / "genie_gym" / path).exists(), path


def test_its_tree_exists() -> None:
    tree = TEXT.split("## The tree")[1].split("\n## ")[0]
    names = re.findall(r"^    (  )?([\w./]+)  ", tree, flags=re.MULTILINE)
    names += [("inside", name) for name in re.findall(r"; ([\w./]+):", tree)]
    assert len(names) > 15
    for inner, name in names:
        assert (ROOT / ("genie_gym" if inner else ".") / name).exists(), name
