"""What the README says is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.lib.readme_tables import CARD, README, RESULTS_PAGE, render

ROOT = Path(__file__).parent.parent
TEXT = README.read_text()


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_its_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks()[0]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_its_second_example_runs() -> None:
    import torch

    scope = {"videos": torch.rand(2, 6, 3, 64, 64), "genie_gym": __import__("genie_gym")}
    exec(blocks()[1], scope)
    assert scope["frames"].shape == (2, 3, 64, 64)  # type: ignore[attr-defined]


def test_its_agent_trains_in_the_world() -> None:
    import numpy as np

    scope = {"frame": np.full((64, 64, 3), 128, dtype=np.uint8), "genie_gym": __import__("genie_gym")}
    exec(blocks()[2], scope)
    assert scope["model"].num_timesteps == 256  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [README, CARD, RESULTS_PAGE], ids=lambda path: path.parent.name)
def test_its_tables_agree_with_the_results(path: Path) -> None:
    assert render(path) == path.read_text(), "run python -m experiments.lib.readme_tables"


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^    make (\w+)", TEXT, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_its_tree_exists() -> None:
    tree = TEXT.split("## The tree")[1].split("## Licence")[0]
    names = re.findall(r"^    (  )?([\w./]+)  ", tree, flags=re.MULTILINE)
    assert len(names) > 10
    for inner, name in names:
        assert (ROOT / ("genie_gym" if inner else ".") / name).exists(), name
