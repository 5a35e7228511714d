"""Control, on tracks made by hand and on scripted worlds."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.data.frames import to_uint8
from genie_gym.metrics import control
from genie_gym.metrics.control import (
    CONTROL_NAMES,
    CONTROL_STEPS,
    GAME_KEYS,
    HeldKeys,
    hold_actions,
    hold_keys,
    match_actions,
    measure_control,
)

STARTS = 40
SPEEDS = {"left": (-2, 0), "stay": (0, 0), "jump": (0, 2), "right": (2, 0), "right jump": (2, 2)}
"""Pixels a step, right and up, of each key on free ground."""


def walk(limits: Tensor) -> Tensor:
    """Tracks of all keys, (5, M, 17, 2), where (M,) limits are the pixels to a wall on the right."""
    steps = torch.arange(1 + CONTROL_STEPS, dtype=torch.float64)
    free = torch.stack([torch.tensor(SPEEDS[key]) * steps[:, None] for key in GAME_KEYS])
    tracks = free[:, None].repeat(1, len(limits), 1, 1)
    tracks[..., 0] = torch.minimum(tracks[..., 0], limits[:, None])
    return tracks


@pytest.fixture
def held() -> HeldKeys:
    """Starts at random distances from a wall."""
    limits = torch.randint(0, 33, (STARTS,), generator=torch.Generator().manual_seed(0)).double()
    lasts = torch.full((len(GAME_KEYS), STARTS), CONTROL_STEPS)
    return HeldKeys(np.zeros((STARTS, 4, 64, 64, 3), np.uint8), walk(limits), lasts)


def measure(tracks: Tensor, held: HeldKeys) -> dict[str, Any]:
    return measure_control(tracks, held, match_actions([tracks], [held]), seed=0)


def test_a_world_like_the_game_reaches_it_in_all_scores(held: HeldKeys) -> None:
    order = [3, 1, 4, 0, 2, 1]
    matches = match_actions([held.tracks[order]], [held])
    assert matches.keys.tolist() == order
    assert matches.chosen == {"left": 3, "right": 0, "jump": 4}
    scores = measure(held.tracks, held)
    assert scores["world"] == scores["game"]
    assert scores["world"]["agreement_x"] == scores["world"]["agreement_y"] == 1
    assert scores["world"]["obedience_left"] == scores["world"]["obedience_jump"] == 1
    assert scores["world"]["obedience_right"] == float((held.tracks[3, :, -1, 0] >= 3).double().mean()) < 1
    assert all(ratio == {"ratio": 1, "interval": [1, 1]} for ratio in scores["ratio"].values())
    assert set(scores["ratio"]) == set(CONTROL_NAMES)


def test_shuffled_labels_score_low(held: HeldKeys) -> None:
    shuffled = measure(held.tracks, held)["shuffled"]
    assert abs(shuffled["x_explained"]) < 0.1
    assert shuffled["agreement_x"] < 0
    assert shuffled["obedience_left"] < 0.5


def test_a_world_without_walls_explains_its_motion_but_does_not_agree(held: HeldKeys) -> None:
    scores = measure(walk(torch.full((STARTS,), 1e9)), held)
    assert scores["world"]["x_explained"] > scores["game"]["x_explained"] + 0.05
    assert scores["world"]["agreement_x"] < 0.8
    assert scores["world"]["agreement_y"] == 1
    assert scores["ratio"]["x_explained"]["interval"][0] > 1


def test_the_mean_motion_of_a_key_is_the_blind_agreement(held: HeldKeys) -> None:
    means = held.tracks.mean(dim=1, keepdim=True).expand_as(held.tracks)
    scores = measure(means, held)
    assert scores["blind"]["agreement_x"] == pytest.approx(scores["world"]["agreement_x"])
    assert scores["blind"]["agreement_x"] < 1


def test_a_world_that_turns_left_and_right_around_is_found_out(held: HeldKeys) -> None:
    """The map is fitted on other levels, so it cannot be bent to what happens on these."""
    matches = match_actions([held.tracks], [held])
    scores = measure_control(held.tracks[[3, 1, 2, 0, 4]], held, matches, seed=0)
    assert scores["world"]["x_explained"] == pytest.approx(scores["game"]["x_explained"])
    assert scores["world"]["agreement_x"] < 0
    assert scores["world"]["obedience_left"] == 0
    assert scores["ratio"]["obedience_left"] == {"ratio": 0, "interval": [0, 0]}


def test_what_happens_after_the_end_of_the_game_does_not_count(held: HeldKeys) -> None:
    lasts = torch.randint(6, 1 + CONTROL_STEPS, held.lasts.shape, generator=torch.Generator().manual_seed(1))
    is_over = torch.arange(1 + CONTROL_STEPS) > lasts[..., None]
    another_level = torch.where(is_over[..., None], 99.0, held.tracks)
    cut = held._replace(tracks=another_level, lasts=lasts)
    scores = measure(held.tracks, cut)
    assert scores["world"] == scores["game"]
    assert scores["blind"]["agreement_y"] == 1
    assert scores["ended"] == pytest.approx(float((lasts < CONTROL_STEPS).double().mean()))


def test_a_few_starts_at_which_an_action_fails_do_not_change_what_it_stands_for(held: HeldKeys) -> None:
    tracks = held.tracks.clone()
    tracks[0, :10] = 90.0
    assert match_actions([tracks], [held]).keys.tolist() == [0, 1, 2, 3, 4]


def test_a_jump_over_the_wall_does_not_stand_in_for_right(held: HeldKeys) -> None:
    tracks = held.tracks.clone()
    tracks[4, :, :, 0] = torch.arange(1 + CONTROL_STEPS) * 2.0
    assert match_actions([tracks], [held]).chosen["right"] == 3


def test_starts_at_rest_are_scored_apart(held: HeldKeys, random_videos: Any) -> None:
    scenes = to_uint8(random_videos(STARTS, 1))
    runs = np.stack([np.roll(scenes[:, 0], -2 * step, axis=2) for step in range(4)], axis=1)
    stands = np.repeat(scenes, 4, axis=1)
    half = np.concatenate([runs[:10], stands[10:]])
    tracks = held.tracks.clone()
    tracks[:, :10] = -tracks[:, :10]  # a player that runs does the opposite
    scores = measure(tracks, held._replace(frames=half))
    assert scores["at_rest"]["starts"] == STARTS - 10
    assert scores["at_rest"]["world"] == scores["at_rest"]["game"]
    assert scores["at_rest"]["ratio"]["agreement_x"] == {"ratio": 1, "interval": [1, 1]}
    assert scores["world"]["agreement_x"] < 0.7
    assert measure(tracks, held._replace(frames=runs))["at_rest"] == {"starts": 0}


def test_no_ratio_to_a_game_that_never_obeys(held: HeldKeys) -> None:
    blocked = held._replace(tracks=walk(torch.zeros(STARTS, dtype=torch.float64)))
    ratio = measure(held.tracks, blocked)["ratio"]["obedience_right"]
    assert ratio == {"ratio": None, "interval": None}


def test_noise_has_a_wide_interval_that_holds_the_ratio(held: HeldKeys) -> None:
    noise = torch.randn(held.tracks.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ratio = measure(held.tracks + 20 * noise, held)["ratio"]["x_explained"]
    low, high = ratio["interval"]
    assert low < ratio["ratio"] < high
    assert high - low > 0.1


def test_starts_are_played_batch_by_batch_with_the_seeds_of_one_batch(
    shifting_world: Any, random_videos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = to_uint8(random_videos(5, 4, 32, 32))
    whole, none = hold_actions(shifting_world, frames, seed=0)
    monkeypatch.setattr(control, "_CHUNK", 2)
    parts, shown = hold_actions(shifting_world, frames, seed=0, shown=3)
    assert torch.equal(whole, parts)
    assert whole[:, :, -1].unique(dim=1).squeeze(1).tolist() == [[-32, 0], [32, 0], [0, -32], [0, 0]]
    assert none.shape[:2] == (4, 0)
    assert shown.shape[:3] == (4, 3, 1 + CONTROL_STEPS)


def test_keys_of_the_game_move_its_player() -> None:
    held = hold_keys("easy", "validation", 6, seed=0)
    assert held.tracks.shape == (5, 6, 1 + CONTROL_STEPS, 2)
    assert (held.tracks[:, :, 0] == 0).all()
    left, stay, jump, right, _ = held.tracks.clamp(-40, 40)
    assert left[..., 0].min() <= -3
    assert right[..., 0].max() >= 3
    before = held.lasts[2] >= 1
    assert (jump[before, 1, 1] >= 4).all(), "from the ground every jump lifts"
    assert (stay[held.lasts[1] >= 1, 1, 1] <= 0).all()
