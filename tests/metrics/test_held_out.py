"""Clips recorded for an evaluation, and the levels they come from."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from genie_gym.metrics import held_out
from genie_gym.metrics.held_out import (
    LEVELS,
    ClipPool,
    join_clips,
    read_actions,
    record_clips,
    record_clips_by_player,
    record_pool,
)


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "RECORDED_FRAMES", 2048)


def test_sets_of_levels_are_disjoint() -> None:
    spans = sorted((first, first + number) for first, number in LEVELS.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert LEVELS["test"] == (20_000, 1_000)


@pytest.mark.parametrize("levels", LEVELS)
def test_a_pool_has_only_its_levels(levels: str, tmp_path: Path) -> None:
    pool = record_pool(tmp_path, "random", levels, "easy", seed=0)
    first, number = LEVELS[levels]
    seen = {pool.dataset.level(int(clip)) for clip in pool.numbers[::50]}
    assert seen <= set(range(first, first + number))
    assert pool.dataset.attribute(0, "mode") == "easy"
    with pytest.raises(ValueError, match="no attribute 'colour'"):
        pool.dataset.attribute(0, "colour")


def test_clips_carry_the_actions_taken_in_them(tmp_path: Path) -> None:
    pool = record_pool(tmp_path, "sticky", "validation", "hard", seed=0)
    play = pool.draw(5, seed=1)
    assert play.videos.shape == (5, 16, 3, 64, 64)
    assert play.real_actions is not None
    assert play.real_actions.shape == (5, 15)
    batch = next(iter(pool.batches(3, seed=2)(4, 1)))
    assert (read_actions(pool.dataset, batch.numbers.numpy()) < 9).all()
    again = list(pool.batches(3, seed=2)(0, 5))[4]
    assert np.array_equal(batch.numbers, again.numbers)
    assert batch.videos.equal(again.videos)
    assert ClipPool(pool.dataset, pool.numbers, groups=None).draw(2, seed=0).real_actions is None


def test_other_clips_are_as_many_and_none_twice(tmp_path: Path) -> None:
    pool = record_pool(tmp_path, "random", "validation", "easy", seed=0)
    pool = pool._replace(numbers=pool.numbers[:20])
    play = pool.draw(10, seed=1, with_others=True)
    assert play.others is not None
    assert play.videos.equal(pool.draw(10, seed=1).videos), "the clips that are scored stay the same"
    assert play.others.equal(pool.draw(20, seed=1).videos[10:])
    few = pool.draw(11, seed=1, with_others=True)
    assert few.others is None
    joined = join_clips({"first": play, "second": play})
    assert joined.others is not None
    assert joined.others.shape == joined.videos.shape == (20, 16, 3, 64, 64)
    assert join_clips({"first": play, "second": few}).others is None, "distances compare equally many clips"


def test_clips_are_shared_by_two_players_and_joined() -> None:
    plays = record_clips_by_player("random", "validation", "hard", 6, seed=0)
    assert {name: len(play.videos) for name, play in plays.items()} == {"sticky": 3, "player": 3}
    whole = join_clips(plays)
    assert whole.real_actions is not None
    assert whole.videos[3:].equal(plays["player"].videos)
    unknown = join_clips({**plays, "videos": plays["sticky"]._replace(real_actions=None)})
    assert unknown.real_actions is None
    assert len(unknown.videos) == 9


def test_unknown_levels_and_too_many_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must be one of"):
        record_clips("random", "tests", "easy", 2, 0)
    with pytest.raises(ValueError, match=r"clips must be 1 to .*got 100000"):
        record_clips("random", "validation", "easy", 100_000, 0)
