"""How often labels tell keys apart that were pressed in the same state, and how long they persist."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.data.frames import to_uint8
from genie_gym.metrics.action_groups import PROCGEN_GROUPS
from genie_gym.metrics.motion import estimate_shifts
from genie_gym.metrics.separability import PAIRS, Moment, play_moments, score_persistence, score_separability

KEYS = (1, 4, 5, 7, 8)
SHIFTS = {1: (0, 1), 4: (0, 0), 5: (3, 0), 7: (0, -1), 8: (3, -1)}
"""Rows down and columns right by which the image moves under each key."""
MAPS = {
    "direction": torch.tensor([0, 1, 1, 2, 2]),
    "up": torch.tensor([0, 0, 1, 0, 1]),
    "effective": torch.tensor(KEYS),
}
"""Maps from the place of a key in ``KEYS``, as a label, to its kinds."""


@pytest.fixture
def moments(random_videos: Callable[..., Tensor]) -> list[Moment]:
    """Two moments of 4 games on a moving picture; in the last game no key shows."""
    made = []
    for seed in range(2):
        start = random_videos(4, 1, 64, 64)[:, 0].roll(seed, dims=0)
        after = torch.stack([start.roll(SHIFTS[key], (-2, -1)) for key in KEYS], dim=1)
        after[3] = start[3]
        past = to_uint8(start[:, None].expand(-1, 4, -1, -1, -1))
        made.append(Moment(np.stack([past, past]), np.stack([to_uint8(after)] * 2)))
    return made


def read_keys(videos: Tensor) -> Tensor:
    """Label the last transition with the place of the key that was pressed, the others with 0."""
    shifts = [tuple(shift) for shift in estimate_shifts(videos[:, -2], videos[:, -1]).tolist()]
    labels = torch.zeros(len(videos), videos.shape[1] - 1, dtype=torch.int64)
    labels[:, -1] = torch.tensor([list(SHIFTS.values()).index(shift) for shift in shifts])
    return labels


def guess_nothing(videos: Tensor) -> dict[str, Tensor]:
    return {name: torch.zeros(len(videos), dtype=torch.int64) for name in PROCGEN_GROUPS.kinds}


def test_a_labeller_that_knows_the_key_names_both_of_every_pair_that_shows(moments: list[Moment]) -> None:
    scores = score_separability(
        iter(moments),
        read_keys,
        MAPS,
        lambda videos: {name: MAPS[name][read_keys(videos)[:, -1]] for name in PROCGEN_GROUPS.kinds},
        seed=0,
    )
    assert scores["states"] == 16
    for pair in scores["pairs"].values():
        assert (pair["shows"], pair["told_apart"], pair["ceiling"]) == (0.75, 1, 1)
        assert pair["interval"] == (1, 1)
        assert 0 < pair["random"] < 0.5
    assert scores["equal"] == 1
    assert scores["equal_random"] == pytest.approx((3 / 20) ** 2 * 4 + (8 / 20) ** 2)


def test_different_labels_that_are_mapped_to_the_wrong_keys_do_not_count(moments: list[Moment]) -> None:
    swapped = {"direction": 2 - MAPS["direction"], "up": 1 - MAPS["up"], "effective": MAPS["effective"]}
    pairs = score_separability(iter(moments), read_keys, swapped, guess_nothing, seed=0)["pairs"]
    assert {name: pair["told_apart"] for name, pair in pairs.items()} == dict.fromkeys(PAIRS, 0)


def test_a_labeller_that_ignores_the_key_tells_nothing_apart(moments: list[Moment]) -> None:
    def label(videos: Tensor) -> Tensor:
        return torch.zeros(len(videos), videos.shape[1] - 1, dtype=torch.int64)

    scores = score_separability(iter(moments), label, MAPS, guess_nothing, seed=0)
    assert all(pair["told_apart"] == pair["ceiling"] == 0 for pair in scores["pairs"].values())
    assert scores["equal"] == scores["equal_random"] == 1


def test_frames_that_differ_without_motion_do_not_show(moments: list[Moment]) -> None:
    painted = []
    for past, after in moments:
        still = np.repeat(past[:, :, -1:], len(KEYS), axis=2)
        still[..., 30:34, 30:34, :] = np.arange(len(KEYS))[:, None, None, None] * 50  # the player's pose
        painted.append(Moment(past, still.reshape(after.shape)))
    scores = score_separability(iter(painted), read_keys_of_poses, MAPS, guess_nothing, seed=0)
    for pair in scores["pairs"].values():
        assert pair == {"told_apart": None, "interval": None, "ceiling": None, "random": None, "shows": 0}


def read_keys_of_poses(videos: Tensor) -> Tensor:
    return (videos[:, 1:, 0, 31, 31] * 255 / 50).round().long().clamp(max=4)


def test_keys_are_pressed_in_the_state_that_is_played_on_and_in_the_next(tmp_path: Path) -> None:
    (tmp_path / "player.py").write_text(
        "import numpy\ndef right():\n    return lambda frames: numpy.full(len(frames), 7)\n"
    )
    drawn = list(play_moments("easy", "validation", 6, seed=0, past=3, player=f"{tmp_path / 'player.py'}:right()"))
    assert len(drawn) == 16
    assert sum(moment.past.shape[1] for moment in drawn) > 60
    for past, after in drawn:
        assert past.shape[2:] == (3, 64, 64, 3)
        assert np.array_equal(past[0, :, 1:], past[1, :, :-1]), "neighbouring states"
        assert np.array_equal(past[1, :, -1], after[0, :, KEYS.index(7)]), "what right leads to is what was played"


def test_games_that_end_within_every_moment_are_too_few(moments: list[Moment]) -> None:
    ended = [Moment(past[:, :0], after[:, :0]) for past, after in moments]
    with pytest.raises(ValueError, match="games must be more"):
        score_separability(iter(ended), read_keys, MAPS, guess_nothing, seed=0)


def test_jumps_show_on_the_ground_and_not_in_the_air() -> None:
    drawn = play_moments("easy", "validation", games=12, seed=0, past=2, player="sticky")
    pairs = score_separability(
        drawn, lambda videos: torch.zeros(len(videos), 2, dtype=torch.int64), MAPS, guess_nothing, seed=0
    )["pairs"]
    assert 0.05 < pairs["jump standing"]["shows"] < 0.8
    assert pairs["left or right"]["shows"] > 0.1


def test_persistence_counts_labels_by_whether_the_key_stays() -> None:
    keys = torch.tensor([[7, 7, 7, 1, 1], [4, 9, 14, 4, 7]])
    labels = torch.tensor([[0, 0, 1, 1, 2], [3, 3, 3, 0, 1]])
    scores = score_persistence(labels, keys)
    assert scores["key_stays"] == pytest.approx(3 / 6), "keys 9 and 14 do what 4 does"
    assert scores["key_changes"] == pytest.approx(1 / 2)
    assert scores["chance"] == pytest.approx((9 + 9 + 1 + 9) / 100)
    assert score_persistence(labels, torch.full_like(keys, 7))["key_changes"] is None
