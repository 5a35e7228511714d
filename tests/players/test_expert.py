"""Tests of the shipped CoinRun player."""

from pathlib import Path

import numpy as np
import pytest

from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import open_games
from genie_gym.players.expert import EXPERT_WEIGHTS, Expert
from genie_gym.players.random import UniformRandom
from genie_gym.players.specs import Player, parse_share


def count_coins(player: Player, env_steps: int = 120) -> int:
    """Count the coins that 32 games of easy validation levels reach."""
    config = RecordConfig(mode="easy", start_level=10_000, num_levels=1_000)
    games = open_games(config, seed=0, num_envs=32, paint_velocity=True)
    coins = 0
    for _ in range(env_steps):
        games.act(player(games.observe().frames))
        coins += int((games.observe().rewards > 0).sum())
    games.close()
    return coins


def test_it_plays_far_better_than_chance() -> None:
    assert count_coins(Expert()) > 3 * max(1, count_coins(UniformRandom()))


def test_its_spec_sees_the_velocity() -> None:
    share = parse_share("expert=2")
    assert share.sees_velocity
    assert share.weight == 2
    frames = np.random.default_rng(0).integers(256, size=(40, 64, 64, 3), dtype=np.uint8)
    first, second = (share.player(7)(frames) for _ in range(2))
    assert first.dtype == np.int32
    assert np.array_equal(first, second)
    assert not np.array_equal(first, share.player(8)(frames))


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(EXPERT_WEIGHTS.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        Expert(path)
