"""Tests of the random players and of players named by specs."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from genie_gym.data.procgen import direction
from genie_gym.players.random import StickyRandom, UniformRandom
from genie_gym.players.specs import PlayerShare, load_player, parse_share, parse_shares

FRAMES = np.zeros((200, 64, 64, 3), np.uint8)

PLAYERS = """
import numpy as np

def constant(action, seed=0):
    return lambda frames: np.full(len(frames), action + seed, np.int32)

def seedless(name):
    assert name == "left"
    return lambda frames: np.zeros(len(frames), np.int32)

word = 3
"""


@pytest.fixture
def player_file(tmp_path: Path) -> Path:
    """A Python file with two factories of players."""
    path = tmp_path / "players.py"
    path.write_text(PLAYERS)
    return path


def test_uniform_random_covers_all_actions_and_follows_its_seed() -> None:
    actions = UniformRandom(1)(FRAMES)
    assert set(actions.tolist()) == set(range(15))
    assert actions.dtype == np.int32
    np.testing.assert_array_equal(actions, UniformRandom(1)(FRAMES))
    assert (actions != UniformRandom(2)(FRAMES)).any()


def test_sticky_random_repeats_actions_and_prefers_right() -> None:
    player = StickyRandom(0, repeat=0.8, right_bias=0.4)
    actions = np.stack([player(FRAMES) for _ in range(100)])
    assert actions.shape == (100, 200)
    assert actions.dtype == np.int32
    assert actions.max() < 9
    assert np.mean(actions[1:] == actions[:-1]) == pytest.approx(
        0.8 + 0.2 * (0.6**2 / 9 + 0.6 * 0.4 / 9 * 2 + 0.4**2 / 3), abs=0.02
    )
    assert np.mean(direction(actions) == 1) == pytest.approx(0.4 + 0.6 / 3, abs=0.05)


def test_sticky_random_accepts_another_number_of_games() -> None:
    player = StickyRandom(0)
    assert len(player(FRAMES)) == 200
    assert len(player(FRAMES[:3])) == 3


def test_wrong_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"repeat must be in \[0, 1\], got 1.5"):
        StickyRandom(0, repeat=1.5)


@pytest.mark.parametrize(
    ("spec", "action"), [("constant(4)", 6), ("constant( 4 )+velocity", 6), ("seedless('left')", 0)]
)
def test_players_come_from_files(player_file: Path, spec: str, action: int) -> None:
    assert load_player(f"{player_file}:{spec}", seed=2)(FRAMES).tolist() == [action] * 200


def test_shares_are_parsed(player_file: Path) -> None:
    spec = f"{player_file}:constant(4)+velocity"
    uniform, sticky, file = parse_shares(["random", "sticky(0.5, 0)=0.25", f"{spec}=2"])
    assert (uniform.name, uniform.weight, uniform.sees_velocity) == ("random", 1.0, False)
    assert (sticky.name, sticky.weight) == ("sticky(0.5, 0)", 0.25)
    assert (file.name, file.weight, file.sees_velocity) == (spec, 2.0, True)
    again = pickle.loads(pickle.dumps(sticky))
    np.testing.assert_array_equal(again.player(3)(FRAMES), sticky.player(3)(FRAMES))


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "clever",
        "sticky(",
        "random(1)",
        "sticky(1,1,1)",
        "sticky=lots",
        "sticky=0",
        "sticky=-1",
        "sticky=nan",
        "x.py:f",
    ],
)
def test_wrong_specs_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"player|weight"):
        parse_share(spec)


@pytest.mark.parametrize("call", ["absent(1)", "constant()", "constant(1,2,3)", "word", "seedless(left"])
def test_wrong_factories_are_refused(player_file: Path, call: str) -> None:
    with pytest.raises(ValueError, match="player"):
        load_player(f"{player_file}:{call}")


def test_weight_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"PlayerShare.weight must be positive, got 0"):
        PlayerShare(name="none", player=UniformRandom, weight=0)
