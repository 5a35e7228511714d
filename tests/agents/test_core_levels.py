"""The core of a level set: the constant is chosen on validation levels, and its failures are the core."""

from pathlib import Path

import numpy as np
import pytest

from agents import core_levels
from agents.blind import BlindPlayer, play_constant
from agents.core_levels import cache_core, find_core
from agents.evaluation import CUT_OFF, DIED, SOLVED, choose_levels, count_outcomes, play_levels
from agents.game import COINRUN

AMONG = 6


def test_the_core_is_what_the_best_constant_on_validation_levels_fails(tmp_path: Path) -> None:
    path = tmp_path / "new" / "core.json"
    core = cache_core(COINRUN, "test", AMONG, path)
    validation = choose_levels("validation", AMONG)
    solved = [int(play_levels(play_constant(move), COINRUN, validation).solved.sum()) for move in range(9)]
    assert core.constants_solved == solved
    assert core.best_constant == int(np.argmax(solved))
    assert core.constants_solved[core.best_constant] > 0
    test_levels = choose_levels("test", AMONG)
    failed = play_levels(play_constant(core.best_constant), COINRUN, test_levels).solved == 0
    assert core.seeds == [level for level, is_failed in zip(test_levels, failed, strict=True) if is_failed]
    assert 0 < len(core.seeds) < AMONG

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_levels, "play_levels", None)  # nothing is played again
        assert cache_core(COINRUN, "test", AMONG, path) == core


def test_a_core_without_levels_is_rejected() -> None:
    with pytest.raises(
        ValueError, match="among must be so many that action 8, held, fails one of the validation levels"
    ):
        find_core(COINRUN, "validation", 1)


def test_outcomes_are_counted_by_level() -> None:
    levels = choose_levels("validation", 4)
    still = play_levels(play_constant(4), COINRUN, levels[:2])
    assert list(still.outcomes) == [CUT_OFF, CUT_OFF]
    assert list(still.env_steps) == [1000, 1000]
    assert still.actions[4] == still.env_steps.sum() == still.actions.sum()
    held = play_levels(play_constant(8), COINRUN, levels)
    assert set(held.outcomes) == {SOLVED, DIED}
    assert set(held.solved) == {0, 1}
    row = count_outcomes(held, levels, levels[:3], [levels[3], levels[1]])
    assert row["levels"] == row["solved"] + row["deaths"] + row["timeouts"] == len(row["outcomes"]) == 3
    assert row["outcomes"] == "".join(str(each) for each in held.outcomes[:3])
    assert row["core_outcomes"] == f"{held.outcomes[3]}{held.outcomes[1]}"
    assert row["core_solved"] == row["core_outcomes"].count(str(SOLVED))


def test_a_blind_player_draws_by_its_counts_whatever_it_is_shown() -> None:
    counts = np.zeros(15)
    counts[[2, 8]] = 1, 3
    drawn = BlindPlayer(counts, 0)(np.zeros((4000, 1)))
    assert set(drawn) == {2, 8}
    assert np.mean(drawn == 8) == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="counts must be 0 or more, and one above 0"):
        BlindPlayer(np.zeros(15), 0)
