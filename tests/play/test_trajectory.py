"""Trajectories are saved and replayed; invalid ones are refused."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.envs.session import Start
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.trajectory import (
    CheckpointIdentity,
    Trajectory,
    format_trajectory,
    identify_checkpoint,
    load_trajectory,
    parse_trajectory,
    save_trajectory,
)
from genie_gym.play.visitor import Visitor, replay

UNDO_STEPS = 32
TINY = CheckpointIdentity("digest", "tiny")


def make_visitor(world: GenieWorldModel) -> Visitor:
    return Visitor(world, TINY, undo_steps=UNDO_STEPS)


def first_start(world: GenieWorldModel, frames: int = 1, seed: int = 0) -> Start:
    return Start(world.start_clips[0, :frames], -1, seed)


@pytest.fixture
def visitor(tiny_world: GenieWorldModel) -> Visitor:
    return make_visitor(tiny_world)


def test_a_saved_trajectory_replays_to_the_same_frames(
    visitor: Visitor, tiny_world: GenieWorldModel, tmp_path: Path
) -> None:
    frames = [visitor.start(first_start(tiny_world, 2, 7)), *(visitor.step(action) for action in (3, 0, 5, 5))]
    save_trajectory(visitor.trajectory, tmp_path / "play.json")
    loaded = load_trajectory(tmp_path / "play.json")
    assert loaded.latent_actions == (3, 0, 5, 5)
    assert np.array_equal(loaded.prompt, tiny_world.start_clips[0, :2])
    assert np.array_equal(replay(tiny_world, TINY, loaded), np.stack(frames))
    assert len({frame.tobytes() for frame in frames}) == 5


def test_a_trajectory_of_another_checkpoint_is_refused_and_names_its_own(
    visitor: Visitor, tiny_world: GenieWorldModel
) -> None:
    visitor.start(first_start(tiny_world))
    wanted = "trajectory needs the checkpoint 'tiny' of digest 'digest', got the checkpoint 'tiny' of digest 'other'"
    with pytest.raises(ValueError, match=wanted):
        replay(tiny_world, CheckpointIdentity("other", "tiny"), visitor.trajectory)
    assert len(replay(tiny_world, CheckpointIdentity("digest", "a copy"), visitor.trajectory)) == 1


def test_the_command_line_refuses_a_trajectory_of_another_checkpoint(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    (tmp_path / "play.json").write_text(written(checkpoint_name="forest"))
    monkeypatch.setattr(sys, "argv", ["genie-gym", "play", "--replay", str(tmp_path / "play.json")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    complaint = f"{ended.value.code} {capsys.readouterr().err}"
    assert "trajectory needs the checkpoint 'forest' of digest 'digest', got the checkpoint 'coinrun'" in complaint


def test_a_trajectory_does_not_tell_where_its_checkpoint_lies(tiny_checkpoint: Path) -> None:
    assert identify_checkpoint(str(tiny_checkpoint)).name == tiny_checkpoint.name


def test_a_file_of_an_earlier_version_has_no_name() -> None:
    values = json.loads(written())
    del values["checkpoint_name"]
    assert parse_trajectory(json.dumps(values)).checkpoint_name == ""


def test_undone_steps_leave_no_trace(visitor: Visitor, tiny_world: GenieWorldModel) -> None:
    first = visitor.start(first_start(tiny_world))
    assert np.array_equal(visitor.undo(), first)
    frames = [visitor.step(action) for action in (1, 2, 3)]
    assert np.array_equal(visitor.undo(), frames[1])
    assert np.array_equal(visitor.undo(), frames[0])
    assert visitor.trajectory.latent_actions == (1,)
    assert np.array_equal(visitor.step(2), frames[1])
    assert np.array_equal(visitor.step(3), frames[2])
    assert np.array_equal(visitor.restart(), first)
    assert visitor.trajectory.latent_actions == ()
    for _ in range(UNDO_STEPS + 3):
        visitor.step(0)
    for _ in range(UNDO_STEPS + 3):
        visitor.undo()
    assert len(visitor.trajectory.latent_actions) == 3


def test_visitors_do_not_affect_each_other(tiny_world: GenieWorldModel) -> None:
    alone = make_visitor(tiny_world)
    alone.start(first_start(tiny_world))
    wanted = [alone.step(action) for action in (1, 2, 3)]
    visitors = make_visitor(tiny_world), make_visitor(tiny_world)
    for visitor in visitors:
        visitor.start(first_start(tiny_world))
    frames = []
    for action in (1, 2, 3):
        frames.append(visitors[0].step(action))
        visitors[1].step(7)
    assert np.array_equal(np.stack(frames), np.stack(wanted))


def test_steps_before_the_start_and_unknown_actions_are_refused(visitor: Visitor, tiny_world: GenieWorldModel) -> None:
    for play in (
        lambda: visitor.frame,
        lambda: visitor.trajectory,
        lambda: visitor.step(0),
        visitor.undo,
        visitor.restart,
    ):
        with pytest.raises(ValueError, match=r"reset\(\) must be called"):
            play()
    visitor.start(first_start(tiny_world))
    with pytest.raises(ValueError, match=r"latent actions must be in \[0, 8\), got 8"):
        visitor.step(8)
    assert visitor.trajectory.latent_actions == ()


def written(**changes: Any) -> str:
    trajectory = Trajectory(
        checkpoint="digest",
        prompt=np.zeros((1, 8, 8, 3), dtype=np.uint8),
        world_seed=1,
        maskgit_steps=2,
        temperature=0.5,
        latent_actions=(0, 1),
    )
    return json.dumps({**json.loads(format_trajectory(trajectory)), **changes})


def test_a_formatted_trajectory_is_parsed() -> None:
    assert parse_trajectory(written()).latent_actions == (0, 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("[]", "object of format 1"),
        (written(format=2), "object of format 1"),
        (written(extra=1), "must have the fields"),
        (written(checkpoint=3), "checkpoint must be a text"),
        (written(checkpoint_name=None), "checkpoint_name must be a text"),
        (written(world_seed=-1), "world_seed must be"),
        (written(world_seed=True), "world_seed must be"),
        (written(latent_actions=[0.5]), "latent_actions must be"),
        (written(latent_actions=[0] * 100_001), "latent_actions must be"),
        (written(maskgit_steps=0), "maskgit_steps must be"),
        (written(maskgit_steps=None), "maskgit_steps and temperature must be"),
        (written(temperature="warm"), "temperature must be"),
        (written(prompt=[]), "prompt must be 1 to 4 frames"),
        (written(prompt=["AAAA"]), "must be a picture"),
        (written(prompt=["?"]), "PNG in base64"),
        (written(prompt=[3]), "PNG in base64"),
    ],
)
def test_invalid_trajectories_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_trajectory(text)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_trajectory(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read"):
        load_trajectory(tmp_path / "binary.json")
    with pytest.raises(ValueError, match="cannot be written"):
        save_trajectory(parse_trajectory(written()), tmp_path / "no" / "play.json")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo if sys.platform != "win32" else Path.touch, "must be a regular file"),
        (lambda path: path.write_text("<!DOCTYPE html>"), "a web page"),
        (lambda path: path.touch() or os.truncate(path, 1 << 40), "at most 268435456 bytes"),
        (lambda path: path.write_bytes(b"\x80\x04"), "a pickle"),
    ],
)
def test_what_is_no_trajectory_is_refused_before_it_is_read(make: Any, reason: str, tmp_path: Path) -> None:
    make(tmp_path / "play.json")
    with pytest.raises(ValueError, match=rf"play\.json' cannot be read: .*{reason}"):
        load_trajectory(tmp_path / "play.json")
