"""Names of latent actions: proposed, typed in, and saved."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genie_gym import cli
from genie_gym.metrics.naming import propose_names
from genie_gym.models.loading import name_checkpoint
from genie_gym.serving import load_world

EIGHT = tuple("abcdefgh")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "name-actions", *arguments])
    cli.main()


def test_a_picture_has_a_row_for_each_action(tiny_checkpoint: Path, tmp_path: Path) -> None:
    world = load_world(tiny_checkpoint)
    names = propose_names(world, 2, 3, 0, tmp_path / "actions.png")
    assert len(set(names)) == 8
    width, height = Image.open(tmp_path / "actions.png").size
    assert height == 8 * 64
    assert width >= 2 * 4 * 64
    with pytest.raises(ValueError, match=r"starts must be in 1\.\.4, the number of the world's start clips, got 5"):
        propose_names(world, 5, 3, 0, tmp_path / "actions.png")
    with pytest.raises(ValueError, match="frames must be positive, got 0"):
        propose_names(world, 2, 0, 0, tmp_path / "actions.png")


def test_names_are_saved_without_touching_the_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_checkpoint, tmp_path)
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.name != "config.json"}
    assert name_checkpoint(copy, EIGHT) == copy
    assert load_world(copy).config.action_names == EIGHT
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.name != "config.json"} == before
    for wrong in (EIGHT[:7], (*EIGHT[:7], "a"), (*EIGHT[:7], "")):
        with pytest.raises(ValueError, match=r"WorldConfig\.action_names"):
            name_checkpoint(copy, wrong)
    assert load_world(copy).config.action_names == EIGHT


def test_a_user_may_choose_other_names(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = _copy(tiny_checkpoint, tmp_path)
    few: list[Any] = [str(copy), "--starts", "2", "--frames", "2", "--picture", str(tmp_path / "new" / "a.png")]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    run(monkeypatch, *few)
    assert "not saved" in capsys.readouterr().out
    assert load_world(copy).config.action_names == ()
    run(monkeypatch, *few, "--names", *EIGHT)
    assert load_world(copy).config.action_names == EIGHT
    run(monkeypatch, *few, "--accept")
    proposed = load_world(copy).config.action_names
    assert proposed != EIGHT
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: " jump " if question.startswith("3 [") else "")
    run(monkeypatch, *few)
    assert load_world(copy).config.action_names == (*proposed[:3], "jump", *proposed[4:])


def _copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))
