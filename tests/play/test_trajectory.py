"""What was played can be played again, and nothing else gets in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.seat import UNDONE, Visitor, replay
from genie_gym.play.trajectory import Trajectory, load_trajectory, parse_trajectory, save_trajectory, tell_trajectory


@pytest.fixture
def seat(tiny_world: GenieWorldModel) -> Visitor:
    return Visitor(tiny_world, "digest")


def test_what_was_played_is_played_again(seat: Visitor, tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    frames = [seat.open(tiny_world.start_frames[:2], 7), *(seat.step(action) for action in (3, 0, 5, 5))]
    save_trajectory(seat.trajectory, tmp_path / "play.json")
    loaded = load_trajectory(tmp_path / "play.json")
    assert loaded.latent_actions == (3, 0, 5, 5)
    assert np.array_equal(loaded.prompt, tiny_world.start_frames[:2])
    assert np.array_equal(replay(tiny_world, "digest", loaded), np.stack(frames))
    assert len({frame.tobytes() for frame in frames}) == 5
    with pytest.raises(ValueError, match="trajectory must be of the checkpoint 'other', got 'digest'"):
        replay(tiny_world, "other", loaded)


def test_what_is_undone_was_never_played(seat: Visitor, tiny_world: GenieWorldModel) -> None:
    first = seat.open(tiny_world.start_frames[:1], 0)
    assert np.array_equal(seat.undo(), first)
    frames = [seat.step(action) for action in (1, 2, 3)]
    assert np.array_equal(seat.undo(), frames[1])
    assert np.array_equal(seat.undo(), frames[0])
    assert seat.trajectory.latent_actions == (1,)
    assert np.array_equal(seat.step(2), frames[1])
    assert np.array_equal(seat.step(3), frames[2])
    assert np.array_equal(seat.restart(), first)
    assert seat.trajectory.latent_actions == ()
    for _ in range(UNDONE + 3):
        seat.step(0)
    for _ in range(UNDONE + 3):
        seat.undo()
    assert len(seat.trajectory.latent_actions) == 3


def test_seats_do_not_disturb_each_other(tiny_world: GenieWorldModel) -> None:
    alone = Visitor(tiny_world, "")
    alone.open(tiny_world.start_frames[:1], 0)
    wanted = [alone.step(action) for action in (1, 2, 3)]
    seats = Visitor(tiny_world, ""), Visitor(tiny_world, "")
    for seat in seats:
        seat.open(tiny_world.start_frames[:1], 0)
    frames = []
    for action in (1, 2, 3):
        frames.append(seats[0].step(action))
        seats[1].step(7)
    assert np.array_equal(np.stack(frames), np.stack(wanted))


def test_seats_say_what_is_missing(seat: Visitor, tiny_world: GenieWorldModel) -> None:
    for play in (lambda: seat.frame, lambda: seat.trajectory, lambda: seat.step(0), seat.undo, seat.restart):
        with pytest.raises(ValueError, match="seat must be opened"):
            play()
    seat.open(tiny_world.start_frames[:1], 0)
    with pytest.raises(ValueError, match=r"latent_action must be in \[0, 8\), got 8"):
        seat.step(8)
    assert seat.trajectory.latent_actions == ()


def written(**changes: Any) -> str:
    trajectory = Trajectory(
        checkpoint="digest",
        prompt=np.zeros((1, 8, 8, 3), dtype=np.uint8),
        world_seed=1,
        maskgit_steps=2,
        temperature=0.5,
        latent_actions=(0, 1),
    )
    return json.dumps({**json.loads(tell_trajectory(trajectory)), **changes})


def test_what_is_written_is_read() -> None:
    assert parse_trajectory(written()).latent_actions == (0, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "object of format 1"),
        (written(format=2), "object of format 1"),
        (written(extra=1), "must have the fields"),
        (written(checkpoint=3), "checkpoint must be a text"),
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
def test_what_is_off_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_trajectory(text)


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_trajectory(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read"):
        load_trajectory(tmp_path / "binary.json")
    with pytest.raises(ValueError, match="cannot be written"):
        save_trajectory(parse_trajectory(written()), tmp_path / "no" / "play.json")
