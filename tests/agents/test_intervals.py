"""Intervals of levels solved: what they redraw, what pairing cancels, and the normalised score."""

import numpy as np
import pytest

from agents.intervals import estimate_difference, estimate_mean, estimate_normalised, resample_means


def play(chances: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((seeds, len(chances))) < chances).astype(float)


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_methods_that_solve_the_same_levels_differ_by_nothing() -> None:
    scores = play(np.linspace(0.05, 0.95, 60), 5, np.random.default_rng(0))
    assert estimate_difference(scores, scores.copy(), 0) == {"value": 0, "interval": (0, 0)}
    assert width(estimate_mean(scores, 0)["interval"]) > 0.1


def test_what_methods_share_cancels_in_their_difference() -> None:
    rng = np.random.default_rng(1)
    levels = (rng.random(200) < 0.5).astype(float)
    scores, others = np.tile(levels, (5, 1)), np.tile(levels, (5, 1))
    others[:, :10] = 0  # one method fails ten more levels
    paired = width(estimate_difference(scores, others, 0)["interval"])
    apart = width(estimate_difference(scores, np.roll(others, 100, axis=1), 0)["interval"])
    assert paired < apart / 2


def test_seeds_that_repeat_levels_are_no_further_evidence() -> None:
    """Five seeds that agree on every level say as much as one; a bootstrap of single games would say more."""
    levels = (np.random.default_rng(2).random(100) < 0.5).astype(float)
    once, repeated = estimate_mean(levels[None], 0), estimate_mean(np.tile(levels, (5, 1)), 0)
    assert width(repeated["interval"]) == pytest.approx(width(once["interval"]), rel=0.02)
    unclustered = estimate_mean(np.tile(levels, 5)[None], 0)
    assert width(repeated["interval"]) > 1.8 * width(unclustered["interval"])


def test_seeds_that_differ_widen_an_interval() -> None:
    by_seed = np.array([0.0, 0, 0, 1, 1])[:, None] * np.ones(400)
    assert width(estimate_mean(by_seed, 0)["interval"]) >= 0.8
    assert estimate_mean(by_seed[:1], 0)["interval"] == (0, 0)  # a single seed is kept


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Both levels and seeds are drawn: a level has its chance of being solved, and a seed makes all levels harder."""
    rng, covered = np.random.default_rng(0), 0
    for trial in range(100):
        chances = np.clip(rng.uniform(0.2, 0.8, 50) + rng.uniform(-0.1, 0.1, (8, 1)), 0, 1)
        low, high = estimate_mean((rng.random((8, 50)) < chances).astype(float), trial)["interval"]
        covered += low <= 0.5 <= high
    assert 86 <= covered <= 100


def test_normalised_scores_by_hand() -> None:
    blind, player = np.zeros((1, 40)), np.ones((5, 40))
    half = np.tile(np.arange(40) % 2, (5, 1)).astype(float)
    scaled = estimate_normalised(half, blind, player, 0)
    assert scaled is not None
    assert scaled["value"] == 0.5
    assert scaled["interval"] == pytest.approx(estimate_mean(half, 0)["interval"])
    assert estimate_normalised(player, blind, player, 0) == {"value": 1, "interval": (1, 1)}
    assert estimate_normalised(half, player, player, 0) is None


def test_a_player_that_is_hardly_above_blind_play_leaves_the_score_open() -> None:
    rng = np.random.default_rng(3)
    blind, player = (play(np.full(50, chance), 5, rng) for chance in (0.45, 0.5))
    scaled = estimate_normalised(play(np.full(50, 0.9), 5, rng), blind, player, 0)
    assert scaled is not None
    assert np.isinf(scaled["interval"][1])


def test_scores_of_other_levels_are_rejected() -> None:
    with pytest.raises(ValueError, match="scores must be of the same levels for all methods"):
        estimate_difference(np.ones((5, 4)), np.ones((5, 3)), 0)
    with pytest.raises(ValueError, match="one seed and level or more"):
        resample_means(np.empty((0, 4)), 0)
