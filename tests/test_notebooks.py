"""The notebooks of docs/notebooks run from top to bottom, and show what they say."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from genie_gym.results.files import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = ROOT / "docs" / "notebooks"
SHORTER = {
    "play_and_branch": {"range(12)": "range(2)", "range(24)": "range(3)"},
    "train_on_own_videos": {"TOKENIZER_STEPS = 100": "TOKENIZER_STEPS = 4", "WORLD_STEPS = 1000": "WORLD_STEPS = 4"},
    "an_agent_in_a_dream": {"STEPS = 16384": "STEPS = 48", "num_envs=16": "num_envs=2", "n_epochs=4": "n_epochs=1"},
}
"""Notebook -> text of its code that a test replaces, to be fast."""
PICTURES = {"play_and_branch": 5, "train_on_own_videos": 3, "an_agent_in_a_dream": 4}
"""Notebook -> number of pictures that it shows."""


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_each_notebook_is_tested_and_linked() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SHORTER) == set(PICTURES)
    page = (ROOT / "docs" / "notebooks.md").read_text()
    assert all(f"(notebooks/{name}.ipynb)" in page for name in SHORTER)


@pytest.mark.parametrize("name", SHORTER)
def test_a_notebook_is_valid_and_kept_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.pipeline
@pytest.mark.parametrize("name", SHORTER)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "an_agent_in_a_dream":
        pytest.importorskip("stable_baselines3")
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", commands)  # of genie-gym
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other tests, two threads wait for each other
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    notebook, left = read(name), dict(SHORTER[name])
    for cell in notebook.cells:
        for long in [long for long in SHORTER[name] if cell.cell_type == "code" and long in cell.source]:
            cell.source = cell.source.replace(long, SHORTER[name][long])
            left.pop(long, None)
    assert not left, "the notebook has changed"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}).keys() & {"image/png", "image/gif"} for output in outputs(notebook)]
    assert sum(map(bool, shown)) == PICTURES[name]
