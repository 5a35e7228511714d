"""Tests of the shipped CoinRun players."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import open_games
from genie_gym.players import networks
from genie_gym.players.networks import NetworkPlayer, load_skilled_policy
from genie_gym.players.random import UniformRandom
from genie_gym.players.specs import Player, load_player, parse_share


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


@pytest.mark.parametrize("name", ["expert", "skilled"])
def test_they_play_far_better_than_chance(name: str) -> None:
    assert count_coins(load_player(name)) > 3 * max(1, count_coins(UniformRandom()))


def test_temperature_goes_from_the_likeliest_action_to_any() -> None:
    frames = np.random.default_rng(0).integers(256, size=(1, 64, 64, 3), dtype=np.uint8).repeat(400, axis=0)
    logits = torch.tensor([[0.0, 2.0, 1.0]]).expand(400, 3)

    def count(temperature: float) -> list[int]:
        chosen = NetworkPlayer(lambda _: logits, 0, temperature)(frames)
        return np.bincount(chosen, minlength=3).tolist()  # type: ignore[no-any-return]

    assert count(0) == [0, 400, 0]
    assert count(0.5)[1] > count(1)[1] > count(4)[1]
    assert count(100)[0] > 80
    with pytest.raises(ValueError, match="temperature must be 0 or more, got -1"):
        load_player("skilled(-1)")


@pytest.mark.parametrize("name", ["expert", "skilled", "skilled(0.5)"])
def test_their_specs_see_the_velocity(name: str) -> None:
    share = parse_share(f"{name}=2")
    assert share.sees_velocity
    assert share.weight == 2
    frames = np.random.default_rng(0).integers(256, size=(40, 64, 64, 3), dtype=np.uint8)
    first, second = (share.player(7)(frames) for _ in range(2))
    assert first.dtype == np.int32
    assert np.array_equal(first, second)
    assert not np.array_equal(first, share.player(8)(frames))


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes((Path(networks.__file__).parents[1] / "weights/players/skilled.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        load_skilled_policy(path)
