"""Play in a window that nobody sees."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.data.video import read_video
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play import window as module
from genie_gym.play.config import Opening
from genie_gym.play.drivers import Driver
from genie_gym.play.keys import Keymap
from genie_gym.play.opening import draw_starts, open_world
from genie_gym.play.seat import Visitor
from genie_gym.play.trajectory import load_trajectory
from genie_gym.serving import load_world

NAMES = tuple("abcdefgh")


class Person:
    """Presses keys, one tuple of (pressed, held) for each picture shown."""

    def __init__(self, pygame: Any, script: list[tuple[str, str]]) -> None:
        self.pygame, self.script, self.held = pygame, script, ""

    def press(self) -> None:
        pressed, self.held = self.script.pop(0) if self.script else ("q", "")
        if pressed:
            self.pygame.event.post(self.pygame.event.Event(self.pygame.KEYDOWN, key=self.pygame.key.key_code(pressed)))


def play(
    script: list[tuple[str, str]],
    world: GenieWorldModel,
    out: Path,
    pygame: Any,
    monkeypatch: Any,
    driver: Driver | None = None,
) -> list[Any]:
    """The pictures that were shown."""
    person, shown = Person(pygame, script), []

    def show(self: module.Window, frame: np.ndarray) -> None:
        shown.append(frame)
        person.press()

    pygame.display.init()
    monkeypatch.setattr(module.Window, "show", show)
    monkeypatch.setattr(module, "_held", lambda pygame: set(person.held))
    module.WindowedPlay(Visitor(world, "digest"), Keymap(NAMES), draw_starts(world, None, 0), out, driver).run()
    return shown


def test_keys_play_pause_undo_and_write(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    script = [
        ("", "3"),
        ("", "3"),
        ("space", "3"),  # paused: nothing moves
        ("", "3"),
        ("n", "5"),  # but for one frame
        ("backspace", ""),
        ("space", ""),  # goes on, and no key means no action here
        ("", "8"),
        ("q", ""),
    ]
    shown = play(script, world, tmp_path / "out", pygame, monkeypatch)
    trajectory = load_trajectory(tmp_path / "out" / "play.json")
    assert trajectory.latent_actions == (2, 2, 7)
    moves = [not np.array_equal(a, b) for a, b in itertools.pairwise(shown)]
    assert moves == [True, True, False, False, True, True, False, True]
    assert np.array_equal(shown[3], shown[6])
    assert len(read_video(tmp_path / "out" / "play.gif")) == 4


def test_another_start_forgets_what_was_played(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    play([("", "1"), ("e", "2"), ("", "3"), ("r", "4"), ("q", "")], world, tmp_path, pygame, monkeypatch)
    trajectory = load_trajectory(tmp_path / "play.json")
    assert trajectory.latent_actions == (3,)
    assert trajectory.world_seed != 0
    assert len(read_video(tmp_path / "play.gif")) == 2


def test_a_policy_plays_between_two_presses(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    script = [("", "1"), ("p", "1"), ("", "1"), ("p", "1"), ("q", "")]
    play(script, world, tmp_path, pygame, monkeypatch, lambda frames, actions: 3 + len(actions))
    assert load_trajectory(tmp_path / "play.json").latent_actions == (0, 4, 5, 0)


def test_the_command_plays_and_plays_again(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = module.WindowedPlay.run
    monkeypatch.setattr(module.WindowedPlay, "run", lambda self: run(self, most_frames=3))
    monkeypatch.setattr(module, "_held", lambda pygame: {"2"})
    command = ["genie-gym", "play", "--window", "--checkpoint", str(tiny_checkpoint), "--out"]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "first"), "--seed", "3"])
    cli.main()
    first = load_trajectory(tmp_path / "first" / "play.json")
    assert first.latent_actions == (1, 1, 1)
    assert first.world_seed == 3
    again = ["--replay", str(tmp_path / "first" / "play.json")]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "again"), *again])
    cli.main()
    gifs = [read_video(tmp_path / folder / "play.gif") for folder in ("first", "again")]
    assert np.array_equal(*gifs)
    assert len(gifs[0]) == 4


def test_real_keys_are_read(pygame: Any) -> None:
    pygame.display.init()
    pygame.display.set_mode((8, 8))
    assert module._held(pygame) == set()


def test_starts_follow_from_the_seed(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    one, other = draw_starts(tiny_world, None, 5), draw_starts(tiny_world, None, 5)
    drawn = [(one(), other()) for _ in range(3)]
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in drawn)
    assert drawn[0][0][1] == 5
    assert len({a[1] for a, _ in drawn}) == 3
    given = np.zeros((2, 64, 64, 3), np.uint8)
    assert np.array_equal(draw_starts(tiny_world, given, 5)()[0], given)
    with pytest.raises(ValueError, match="prompt"):
        open_world(Opening(prompt=str(tmp_path / "missing.png")))
