"""The detector of players, on the game's own frames and on frames of the world labelled by eye."""

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.release.detector import hide_player, read_labelled, record_pairs
from genie_gym.data.frames import to_float
from genie_gym.metrics.player_detector import load_detector


@pytest.mark.parametrize("shows_player", [True, False])
def test_players_are_seen_in_real_frames_and_not_where_they_are_invisible(shows_player: bool) -> None:
    shown, hidden = record_pairs("validation", games=32, frames=4, seed=5)
    assert len(shown) > 400
    seen = load_detector().sees_player(to_float(shown if shows_player else hidden)).double().mean()
    assert seen >= 0.98 if shows_player else seen <= 0.05


@pytest.mark.parametrize("shows_player", [True, False])
def test_frames_of_the_world_are_judged_as_by_eye(shows_player: bool) -> None:
    frames = read_labelled(shows_player)
    assert len(frames) >= 24
    seen = load_detector().sees_player(to_float(frames)).double().mean()
    assert seen >= 0.95 if shows_player else seen <= 0.05


def test_frames_of_any_leading_shape_are_judged_one_by_one() -> None:
    frames = to_float(np.concatenate([read_labelled(True)[:3], read_labelled(False)[:3]]))
    flat = load_detector().sees_player(frames)
    assert torch.equal(load_detector().sees_player(frames.unflatten(0, (2, 3))), flat.view(2, 3))


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames must be .* got \(2, 3, 32, 32\)"):
        load_detector().sees_player(torch.rand(2, 3, 32, 32))


def test_a_state_without_a_player_is_refused() -> None:
    with pytest.raises(ValueError, match="opaque player"):
        hide_player(bytes(40_000))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.safetensors"):
        load_detector(tmp_path / "none.safetensors")
