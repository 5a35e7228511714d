"""Tests of the player that tries plans in copies of the game."""

from pathlib import Path

import numpy as np
import pytest

from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import Games, open_games, open_levels
from genie_gym.data.procgen_state import digest_state, read_position, simplify_frames
from genie_gym.data.record import record
from genie_gym.data.shards import Shard
from genie_gym.players.search import SearchPlayer
from genie_gym.players.specs import Planner, load_player, parse_share

LEVELS = range(10_000, 10_004)


def play(games: Games, player: SearchPlayer, env_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return actions (T, B), and whether each game's first level was won."""
    actions, is_over, is_won = [], np.zeros(len(LEVELS), np.bool_), np.zeros(len(LEVELS), np.bool_)
    for _ in range(env_steps):
        actions.append(player.plan(games.save()))
        games.act(actions[-1])
        rewards, starts = games.outcomes()
        is_won |= ~is_over & starts & (rewards > 0)
        is_over |= starts
    return np.array(actions), is_won


@pytest.mark.parametrize("mode", ["easy", "hard"])
def test_it_reaches_the_coin(mode: str) -> None:
    games = open_levels(RecordConfig(mode=mode), LEVELS)  # type: ignore[arg-type]
    _, is_won = play(games, SearchPlayer(0), 150)
    assert is_won.all()


def test_equal_seeds_play_equally_and_alone_as_beside_others() -> None:
    def first(seed: int, levels: range) -> np.ndarray:
        games = open_levels(RecordConfig(), levels)
        player = SearchPlayer(seed)
        actions = []
        for _ in range(30):
            actions.append(player.plan(games.save()))
            games.act(actions[-1])
        return np.array(actions)

    np.testing.assert_array_equal(first(3, LEVELS), first(3, LEVELS))
    np.testing.assert_array_equal(first(3, LEVELS)[:, 2:3], first(3, LEVELS[2:3]))
    assert (first(3, LEVELS) != first(4, LEVELS)).any()


def test_a_plan_is_played_on_until_the_game_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    games, player, searched = open_levels(RecordConfig(), LEVELS[:1]), SearchPlayer(0), []
    search = player._search
    monkeypatch.setattr(player, "_search", lambda states: searched.extend(states) or search(states))
    for _ in range(5):
        games.act(player.plan(games.save()))
    assert len(searched) == 1
    wrong = (player.plan(games.save()) + 3) % 9  # another direction
    games.act(wrong)
    player.plan(games.save())
    assert len(searched) == 2


def test_copies_with_simple_frames_play_as_the_game() -> None:
    games = open_levels(RecordConfig(), LEVELS)
    copies = open_games(RecordConfig(mode="easy"), seed=9, num_envs=len(LEVELS))
    rng = np.random.default_rng(0)
    for _ in range(12):
        games.act(rng.integers(9, size=len(LEVELS)))
    copies.restore([simplify_frames(state) for state in games.save()])
    for _ in range(20):
        actions = rng.integers(9, size=len(LEVELS))
        for each in (games, copies):
            each.act(actions)
        assert [digest_state(state) for state in games.save()] == [digest_state(state) for state in copies.save()]
    assert [read_position(state) for state in games.save()] == [read_position(state) for state in copies.save()]
    np.testing.assert_array_equal(games.outcomes(), copies.outcomes())


def test_positions_grow_to_the_right() -> None:
    games = open_levels(RecordConfig(), LEVELS[:1])
    before = read_position(games.save()[0])
    for _ in range(4):
        games.act(np.array([7]))
    after = read_position(games.save()[0])
    assert before == (1.5, pytest.approx(1.58, abs=0.01))
    assert before.x < after.x < before.x + 2.5


def test_without_its_game_it_is_refused() -> None:
    player = load_player("search")
    assert isinstance(player, Planner)
    with pytest.raises(ValueError, match="'search' needs the states of its games"):
        player(np.zeros((1, 64, 64, 3), np.uint8))
    other = open_games(RecordConfig(game="maze"), seed=0, num_envs=1)
    with pytest.raises(ValueError, match=r"game of a state must be coinrun, got 'maze'"):
        player.plan(other.save())


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"plans": 1}, {"horizon": 0}])
def test_wrong_numbers_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SearchPlayer(**wrong)


def test_recordings_resume_and_do_not_depend_on_workers(tmp_path: Path) -> None:
    config = RecordConfig(frames=120, num_envs=2, frames_per_shard=60, mode="easy")
    shares = [parse_share("search=1")]
    alone = record(config, shares, tmp_path / "alone", progress=False)
    alone[1].unlink()
    record(config, shares, tmp_path / "alone", progress=False)
    together = record(config, shares, tmp_path / "together", progress=False, workers=2)
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in together]
    assert Shard(alone[0]).players == ["search"]
