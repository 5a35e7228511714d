"""Rows gathered into scores, and processor time into stages."""

from pathlib import Path
from typing import Any

import pytest

from agents.costs import CostLog, describe_costs
from agents.methods import CLONING_METHODS
from agents.scores import Scores


def make_row(method: str, core: str, seed: int = 0, labels: int | None = None) -> dict[str, Any]:
    return {"mode": "easy", "method": method, "labels": labels, "seed": seed, "outcomes": "12", "core_outcomes": core}


ROWS = [
    make_row("player", "1111", 1),
    make_row("player", "1110", 0),
    make_row("lam", "1010", 0, 16),
    make_row("lam", "1020", 1, 16),
    make_row("lam", "1111", 0, 200),
    make_row("constant_8", "1111"),
    make_row("right_jump_0.5", "1000", 0),
    make_row("right_jump_0.5", "0000", 1),
    make_row("blind_twin_lam", "2100", 0, 16),
    make_row("blind_twin_lam", "1200", 1, 16),
]


def test_seeds_of_a_method_are_gathered_in_order() -> None:
    scores = Scores(ROWS, CLONING_METHODS, 0)
    assert scores.modes == ["easy"]
    assert scores.keys.index(("player", None)) < scores.keys.index(("lam", 16)) < scores.keys.index(("lam", 200))
    player = scores.solved("easy", ("player", None))
    assert player is not None
    assert player.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]  # seed 0 first
    lam, every = scores.estimate("easy", ("lam", 16)), scores.estimate("easy", ("lam", 16), "all")
    assert lam is not None
    assert every is not None
    assert lam["value"] == 3 / 8  # what is cut off is not solved
    assert every["value"] == 1 / 2
    assert scores.estimate("hard", ("lam", 16)) is None


def test_the_best_blind_row_holds_no_action_and_is_zero_of_the_normalised_score() -> None:
    scores = Scores(ROWS, CLONING_METHODS, 0)
    best = scores.find_best_blind("easy")
    assert best == ("blind_twin_lam", 16)  # constant_8 solves more, and lam is not blind
    for key, value in ((best, 0), (("player", None), 1), (("lam", 16), (3 - 2) / (7 - 2))):
        normalised = scores.normalise("easy", key)
        assert normalised is not None
        assert normalised["value"] == pytest.approx(value)
    compared = scores.compare("easy", ("lam", 16), best)
    assert compared is not None
    assert compared["value"] == pytest.approx(1 / 8)
    assert Scores(ROWS[:5], CLONING_METHODS, 0).normalise("easy", ("lam", 16)) is None


def test_methods_are_compared_on_the_seeds_that_both_have() -> None:
    """In an unfinished run, seed 1 of ``lam`` is missing, and the player is worse on that seed."""
    rows = [make_row("player", core, seed) for seed, core in enumerate(("1111", "0000", "1110"))]
    rows += [make_row("lam", core, seed, 200) for seed, core in ((2, "1010"), (0, "1110"))]
    rows += [make_row("random", "1000", seed) for seed in range(3)]
    rows += [make_row("search", "1111", 0), make_row("lam_relabel", "1111", 3, 200)]
    scores, lam, player = Scores(rows, CLONING_METHODS, 0), ("lam", 200), ("player", None)
    compared = scores.compare("easy", player, lam)
    assert compared is not None
    assert compared["value"] == pytest.approx(7 / 8 - 5 / 8)
    normalised = scores.normalise("easy", lam)
    assert normalised is not None
    assert normalised["value"] == pytest.approx((5 - 2) / (7 - 2))
    ceiling = scores.compare("easy", ("search", None), player)  # it has one seed, and is the same for all
    assert ceiling is not None
    assert ceiling["value"] == pytest.approx(1 - 7 / 12)
    assert scores.compare("easy", player, ("lam_relabel", 200)) is None  # no seed in common


def test_stages_add_up_over_runs_and_a_failed_one_is_left_out(tmp_path: Path) -> None:
    log = CostLog(tmp_path / "new" / "costs.jsonl")
    assert log.sum_stages() == {}
    for stage in ("recording", "playing", "recording"):
        with log.measure(stage, mode="easy"):
            sum(range(2_000_000))
    with pytest.raises(KeyboardInterrupt), log.measure("labelling"):
        raise KeyboardInterrupt
    sums = CostLog(log.path).sum_stages()
    assert list(sums) == ["recording", "playing"]
    assert sums["recording"] > 0
    assert describe_costs({"recording": 3600, "playing": 1800}) == (
        "1.50 core-hours in all (recording 1.00, playing 0.50)"
    )
