"""Playing in a window, with simulated keys."""

import dataclasses
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.data.video import read_video
from genie_gym.envs.keys import SETTLING_STEPS, Keymap
from genie_gym.envs.rendering import playing_rate
from genie_gym.envs.rewards import zero_rewards
from genie_gym.envs.session import Session
from genie_gym.envs.worlds import WorldHandle
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play import connection, run
from genie_gym.play import window as module
from genie_gym.play.config import PlayConfig
from genie_gym.play.drivers import Driver
from genie_gym.play.setup import prepare_play, stream_starts
from genie_gym.play.trajectory import CheckpointIdentity, load_trajectory
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
    names: tuple[str, ...] = NAMES,
    wait: bool = True,
) -> list[Any]:
    """Play a script of keys and return the frames that were shown."""
    person, shown = Person(pygame, script), []

    def show(self: module.PygameWindow, frame: np.ndarray) -> None:
        shown.append(frame)
        person.press()

    pygame.display.init()
    monkeypatch.setattr(module.PygameWindow, "show", show)
    monkeypatch.setattr(module, "_held", lambda pygame: set(person.held))
    visitor = Visitor(world, CheckpointIdentity("digest", "tiny"), undo_steps=4)
    starts = stream_starts(visitor.session, None, 0)
    module.WindowedPlay(visitor, Keymap(names), starts, out, driver, wait).run()
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


@pytest.mark.parametrize("fps", [None, 50, 60, 1000])
def test_a_world_of_any_rate_is_saved_and_replayed(
    fps: float | None, tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GIF shows at most 50 frames a second."""
    world, kept = load_world(tiny_checkpoint), {60: [0, 2, 4], 1000: [0]}.get(fps or 10, [0, 1, 2, 3, 4])
    monkeypatch.setattr(world, "config", dataclasses.replace(world.config, fps=fps))
    monkeypatch.setattr(run, "load_world", lambda *given: world)
    monkeypatch.setattr(run, "identify_checkpoint", lambda *given: CheckpointIdentity("digest", "tiny"))
    shown = play([("", "3"), ("", "2"), ("", "1"), ("", "5"), ("q", "")], world, tmp_path, pygame, monkeypatch)
    assert load_trajectory(tmp_path / "play.json").latent_actions == (2, 1, 0, 4)
    expected = np.stack(shown)[kept]
    assert run.write_replay("tiny", "cpu", tmp_path / "play.json", tmp_path / "again") == 5
    for folder in (tmp_path, tmp_path / "again"):
        assert np.abs(read_video(folder / "play.gif").astype(int) - expected).mean() < 10
    visitor = SimpleNamespace(frames=np.stack(shown), session=SimpleNamespace(fps=playing_rate(world.config)))
    (tmp_path / "page.gif").write_bytes(connection._encode(visitor, "gif"))
    assert np.array_equal(read_video(tmp_path / "page.gif"), read_video(tmp_path / "play.gif"))


def test_an_episode_is_kept_if_its_pictures_cannot_be_written(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise ValueError("the disk is full")

    monkeypatch.setattr(module, "write_video", fail)
    with pytest.raises(ValueError, match="the disk is full"):
        play([("", "3"), ("q", "")], load_world(tiny_checkpoint), tmp_path, pygame, monkeypatch)
    assert load_trajectory(tmp_path / "play.json").latent_actions == (2,)


@pytest.mark.parametrize("way", [["--window"], ["--replay", "missing.json"]])
def test_a_folder_that_cannot_be_written_is_named_before_anything_is_played(
    way: list[str],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(run, "WindowedPlay", lambda *given: pytest.fail("has begun"))
    command = ["genie-gym", "play", "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "file" / "out")]
    monkeypatch.setattr(sys, "argv", [*command, *way])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    assert "cannot be written" in capsys.readouterr().err


def test_another_start_discards_the_episode(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = load_world(tiny_checkpoint)
    play([("", "1"), ("e", "2"), ("", "3"), ("r", "4"), ("q", "")], world, tmp_path, pygame, monkeypatch)
    trajectory = load_trajectory(tmp_path / "play.json")
    assert trajectory.latent_actions == (3,)
    assert trajectory.world_seed != 0
    assert len(read_video(tmp_path / "play.gif")) == 2


def test_the_world_waits_for_a_key_and_settles_after_it(
    tiny_checkpoint: Path, pygame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, names, many = load_world(tiny_checkpoint), ("still", *NAMES[1:]), SETTLING_STEPS + 5
    script = [*[("", "")] * 3, ("n", ""), ("", "3"), *[("", "")] * many, ("backspace", ""), *[("", "")] * 3]
    play(script, world, tmp_path, pygame, monkeypatch, names=names)
    assert load_trajectory(tmp_path / "play.json").latent_actions == (0, 2, *[0] * (SETTLING_STEPS - 1))
    play([("", "")] * many, world, tmp_path, pygame, monkeypatch, names=names, wait=False)
    assert load_trajectory(tmp_path / "play.json").latent_actions == (0,) * (many + 1)


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
    play_on = module.WindowedPlay.run
    monkeypatch.setattr(module.WindowedPlay, "run", lambda self: play_on(self, most_frames=3))
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
