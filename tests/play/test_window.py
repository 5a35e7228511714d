"""Playing in a window, with simulated keys."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.data.video import read_video
from genie_gym.envs.rewards import zero_rewards
from genie_gym.envs.session import Session
from genie_gym.envs.worlds import WorldHandle
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play import window as module
from genie_gym.play.config import PlayConfig
from genie_gym.play.drivers import Driver
from genie_gym.play.keys import Keymap
from genie_gym.play.setup import prepare_play, stream_starts
from genie_gym.play.trajectory import load_trajectory
from genie_gym.play.visitor import Visitor
from genie_gym.serving import load_world

NAMES = tuple("abcdefgh")


class Person:
    """A person who presses keys: one tuple of (pressed, held) for each frame shown."""

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
    """Play a script of keys and return the frames that were shown."""
    person, shown = Person(pygame, script), []

    def show(self: module.PygameWindow, frame: np.ndarray) -> None:
        shown.append(frame)
        person.press()

    pygame.display.init()
    monkeypatch.setattr(module.PygameWindow, "show", show)
    monkeypatch.setattr(module, "_held", lambda pygame: set(person.held))
    visitor = Visitor(world, "digest", undo_steps=4)
    starts = stream_starts(visitor.session, None, 0)
    module.WindowedPlay(visitor, Keymap(NAMES), starts, out, driver).run()
    return shown


def test_keys_play_pause_undo_and_save(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    script = [
        ("", "3"),
        ("", "3"),
        ("space", "3"),  # paused: the frame stays
        ("", "3"),
        ("n", "5"),  # except for one step
        ("backspace", ""),
        ("space", ""),  # resumed; no key means no action here
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


def test_another_start_discards_the_episode(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    play([("", "1"), ("e", "2"), ("", "3"), ("r", "4"), ("q", "")], world, tmp_path, pygame, monkeypatch)
    trajectory = load_trajectory(tmp_path / "play.json")
    assert trajectory.latent_actions == (3,)
    assert trajectory.world_seed != 0
    assert len(read_video(tmp_path / "play.gif")) == 2


def test_a_policy_plays_while_it_is_switched_on(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    script = [("", "1"), ("p", "1"), ("", "1"), ("p", "1"), ("q", "")]
    play(script, world, tmp_path, pygame, monkeypatch, lambda frames, actions: 3 + len(actions))
    assert load_trajectory(tmp_path / "play.json").latent_actions == (0, 4, 5, 0)


def test_the_command_plays_and_replays(
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


def test_the_seed_determines_the_starts(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    session = Session(WorldHandle(tiny_world), reward_fn=zero_rewards)
    drawn = list(
        itertools.islice(zip(stream_starts(session, None, 5), stream_starts(session, None, 5), strict=True), 3)
    )
    assert all(np.array_equal(a.prompt, b.prompt) and a[1:] == b[1:] for a, b in drawn)
    assert drawn[0][0].world_seed == 5
    assert len({a.world_seed for a, _ in drawn}) == 3
    given = np.zeros((2, 64, 64, 3), np.uint8)
    assert np.array_equal(next(stream_starts(session, given, 5)).prompt, given)
    with pytest.raises(ValueError, match="prompt"):
        prepare_play(PlayConfig(prompt=str(tmp_path / "missing.png")))


def test_starts_are_those_of_earlier_versions(tiny_world: GenieWorldModel) -> None:
    """The first start has the seed itself; later ones draw the start clip first and then the world seed."""
    starts = list(itertools.islice(stream_starts(Session(WorldHandle(tiny_world), reward_fn=zero_rewards), None, 5), 3))
    generator = np.random.default_rng(5)
    expected = [(int(generator.integers(len(tiny_world.start_clips))), 5)]
    for _ in range(2):
        index = int(generator.integers(len(tiny_world.start_clips)))
        expected.append((index, int(generator.integers(2**31))))
    assert [(start.prompt_index, start.world_seed) for start in starts] == expected
