"""Names of latent actions: proposed, typed in, and saved."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from genie_gym import cli
from genie_gym.metrics.motion import play_each_action
from genie_gym.metrics.naming import name_actions, propose_names
from genie_gym.models.loading import name_checkpoint
from genie_gym.serving import load_world

EIGHT = tuple("abcdefgh")
HILL = [0, 4, 8, 10, 8, 4, 0]
FLAT = [0] * 7
WAYS = {
    "stay": (FLAT, FLAT),
    "left": ([0, -1, -2, -3, -4, -5, -6], FLAT),
    "right": ([0, 2, 4, 6, 8, 10, 12], FLAT),
    "slow right": ([0, 1, 3, 4, 5, 6, 7], FLAT),
    "jump": ([0, 0, 1, 1, 1, 1, 1], HILL),
    "jump left": ([0, -1, -2, -3, -4, -5, -6], HILL),
    "jump right": ([0, 2, 4, 6, 8, 10, 12], HILL),
    "low jump": (FLAT, [0, 3, 5, 6, 5, 3, 0]),
    "up": (FLAT, [0, 2, 4, 6, 8, 10, 12]),
    "down": (FLAT, [0, -2, -4, -6, -8, -10, -12]),
}
"""Pixels that the player is to the right of its start, and above it, in each frame, by the name of the action."""


@pytest.fixture
def play_ways(random_videos: Any) -> Any:
    """Return a function that holds actions from 5 start frames, in the 2 last of which nothing ever moves."""

    def play(*ways: tuple[list[int], list[int]]) -> Tensor:
        start = random_videos(5, 1)[:, 0]
        played = []
        for right, above in ways:
            frames = [torch.roll(start, (row, -column), (-2, -1)) for column, row in zip(right, above, strict=True)]
            video = torch.stack(frames, dim=1)
            video[3:] = video[3:, :1]  # a wall
            played.append(video)
        return torch.stack(played)

    return play


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "name-actions", *arguments])
    cli.main()


def test_a_picture_has_a_row_for_each_action(tiny_checkpoint: Path, tmp_path: Path) -> None:
    world = load_world(tiny_checkpoint)
    names = propose_names(world, 2, 3, 0, tmp_path / "actions.png")
    assert len(set(names)) == 8
    width, height = Image.open(tmp_path / "actions.png").size
    assert height == 8 * 66 - 2
    assert width >= 2 * 4 * 66 - 2
    with pytest.raises(ValueError, match=r"starts must be in 1\.\.4, the number of the world's start clips, got 5"):
        propose_names(world, 5, 3, 0, tmp_path / "actions.png")
    with pytest.raises(ValueError, match="frames must be positive, got 0"):
        propose_names(world, 2, 0, 0, tmp_path / "actions.png")


@pytest.mark.parametrize("order", [1, -1])
def test_actions_are_named_after_the_way_of_most_starts(play_ways: Any, order: int) -> None:
    names = list(WAYS)[::order]
    assert name_actions(play_ways(*(WAYS[name] for name in names))) == tuple(names)


def test_an_image_that_shifts_to_the_right_shows_a_player_that_goes_left(
    shifting_world: Any, random_videos: Any
) -> None:
    starts = random_videos(12, 1, 32, 32)
    assert name_actions(play_each_action(shifting_world, starts, 3, seed=0)) == ("left", "right", "down", "stay")


def test_a_drift_is_no_direction_beside_an_action_that_goes_far(play_ways: Any) -> None:
    drift = ([0, 1, 2, 3, 4, 4, 4], FLAT)
    assert name_actions(play_ways(drift, WAYS["right"])) == ("stay", "right")
    assert name_actions(play_ways(drift, WAYS["stay"])) == ("right", "stay")


def test_no_two_names_are_equal_and_none_holds_a_digit(play_ways: Any) -> None:
    ways = [each for each in WAYS.values() for _ in range(5)]
    names = name_actions(play_ways(*ways))
    assert len(set(names)) == len(names) == 50
    assert all(word.isalpha() for name in names for word in name.split())
    still = [names[action] for action in range(50) if ways[action] == WAYS["stay"]]
    assert still == ["stay", "rest", "idle", "wait", "other stay"]
    left = [names[action] for action in range(50) if ways[action] == WAYS["left"]]
    assert left[:3] == ["left", "slow left", "very slow left"]


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
