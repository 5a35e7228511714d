"""Starts of play: on the ground, in the middle of a level."""

import contextlib
import struct

import numpy as np
import pytest
import torch

from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import track_player
from genie_gym.metrics.starts import RIGHT, START_FRAMES, Starts, draw_starts, hold_key

PLAYER = struct.pack("<ffi", 0.5, 0.5787, 0)
"""Half width, half height and kind of the player, which follow its place and speed in Procgen's state."""
PIXELS_A_TILE = 64 / 13


@pytest.fixture(scope="module")
def starts() -> Starts:
    return draw_starts("hard", "validation", 12, seed=0)


def read_player(state: bytes) -> tuple[float, ...]:
    """Place and speed of the player, (x, y, vx, vy) in tiles."""
    return struct.unpack("<4f", state[state.index(PLAYER) - 16 : state.index(PLAYER)])


def test_the_player_of_a_start_neither_falls_nor_jumps(starts: Starts) -> None:
    assert [read_player(state)[3] for state in starts.states] == [0.0] * 12


def test_starts_lie_in_the_middle_of_different_levels(starts: Starts) -> None:
    assert starts.frames.shape == (12, START_FRAMES, 64, 64, 3)
    assert len(set(starts.level_seeds.tolist())) == 12
    assert all(10_000 <= level < 11_000 for level in starts.level_seeds)
    assert len({frames[-1].tobytes() for frames in starts.frames}) == 12
    assert np.mean([read_player(state)[0] for state in starts.states]) > 4, "levels begin at 1.5"


def test_states_belong_to_the_last_frames(starts: Starts) -> None:
    config = restrict(RecordConfig(mode="hard"), "validation")
    with contextlib.closing(open_games(config, seed=5, num_envs=12)) as games:
        frames, lasts = hold_key(games, starts.states, RIGHT, 16)
        ends = np.array([read_player(state)[:2] for state in games.save()])
    assert np.array_equal(frames[:, 0], starts.frames[:, -1])
    first = np.array([read_player(state)[:2] for state in starts.states])
    went = track_player(to_float(frames))[:, -1].numpy()
    errors = np.abs(went - PIXELS_A_TILE * (ends - first))[lasts == 16]
    assert errors.size
    assert np.median(errors) < 1.5, "pixels of the image and tiles of the game tell the same way"
    assert starts.has_obstacle[lasts < 16].all()
    assert (starts.has_obstacle | (went[:, 0] >= 20)).all()


def test_the_four_frames_are_consecutive(starts: Starts) -> None:
    steps = track_player(to_float(starts.frames)).diff(dim=1)
    assert float(steps.abs().max()) <= 8, "the fastest jump takes 7.4 pixels a step"


def test_equal_seeds_give_equal_starts(starts: Starts) -> None:
    again = draw_starts("hard", "validation", 12, seed=0)
    assert np.array_equal(again.frames, starts.frames)
    assert again.states == starts.states


@pytest.mark.parametrize(
    ("levels", "number", "named"), [("secret", 4, "levels"), ("test", 0, "number"), ("test", 501, "number")]
)
def test_starts_that_cannot_be_drawn_are_refused_by_name(levels: str, number: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        draw_starts("easy", levels, number, seed=0)


def test_a_player_of_the_whole_film_is_tracked(random_videos) -> None:
    first = random_videos(2, 1, 64, 64)[:, 0]
    films = torch.stack([torch.roll(first, (2 * step, -3 * step), (-2, -1)) for step in range(4)], dim=1)
    assert track_player(films)[0].tolist() == [[0, 0], [3, 2], [6, 4], [9, 6]]
