"""Bootstrap intervals of levels solved, clustered by level and by seed.

Scores are (S, L): seed s on level l, where all methods play the same levels. Levels and seeds are both drawn anew, so
an interval holds for other levels and for other seeds. Equal shapes get equal draws: methods are paired level by level
and seed by seed, and what they share cancels in their differences. A single seed, as of a method without chance, stays.
"""

from typing import TypedDict

import numpy as np

from genie_gym.checks import require

_RESAMPLES = 2000


class Estimate(TypedDict):
    """A value with its 95 % interval."""

    value: float
    interval: tuple[float, float]


def estimate_mean(scores: np.ndarray, seed: int) -> Estimate:
    """Return the mean of scores (S, L); ``seed`` determines the resampling.

    Raises:
        ValueError: If there are no scores.
    """
    return _summarize(float(scores.mean()), resample_means(scores, seed))


def estimate_difference(scores: np.ndarray, others: np.ndarray, seed: int) -> Estimate:
    """Return the mean of scores (S, L) minus that of another method's (S or 1, L) on the same levels.

    Raises:
        ValueError: If there are no scores, or the levels differ.
    """
    _require_same_levels(scores, others)
    drawn = resample_means(scores, seed) - resample_means(others, seed)
    return _summarize(float(scores.mean() - others.mean()), drawn)


def estimate_normalised(scores: np.ndarray, blind: np.ndarray, player: np.ndarray, seed: int) -> Estimate | None:
    """Return (x - blind) / (player - blind) of mean scores, each (S or 1, L) on the same levels.

    A bound is infinite if the player is not above the blind method in too many draws; None if its mean is not.

    Raises:
        ValueError: If there are no scores, or the levels differ.
    """
    for others in (blind, player):
        _require_same_levels(scores, others)
    gap = float(player.mean() - blind.mean())
    if gap <= 0:
        return None
    x, low, high = (resample_means(each, seed) for each in (scores, blind, player))
    above, gaps = x - low, high - low
    drawn = np.where(gaps > 0, above / np.where(gaps > 0, gaps, 1), np.copysign(np.inf, above))
    return _summarize(float(scores.mean() - blind.mean()) / gap, drawn)


def resample_means(scores: np.ndarray, seed: int) -> np.ndarray:
    """Return the means of redrawn scores (S, L), one for each draw of levels and of seeds."""
    is_table = scores.ndim == 2 and 0 not in scores.shape
    require(is_table, "scores", scores.shape, "(S, L) of one seed and level or more")
    by_seed, by_level = (_draw_weights(number, seed, axis) for axis, number in enumerate(scores.shape))
    return np.einsum("ds,sl,dl->d", by_seed, scores, by_level, optimize=True)


def _draw_weights(number: int, seed: int, axis: int) -> np.ndarray:
    """Return (draws, number) weights that sum to 1: how often each of ``number`` is drawn with replacement."""
    rng = np.random.default_rng([seed, axis, number])
    return rng.multinomial(number, np.full(number, 1 / number), size=_RESAMPLES) / number


def _summarize(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5], method="inverted_cdf")  # does not mix values: some may be infinite
    return {"value": value, "interval": (float(low), float(high))}


def _require_same_levels(scores: np.ndarray, others: np.ndarray) -> None:
    is_paired = scores.shape[1:] == others.shape[1:]
    require(is_paired, "scores", (scores.shape, others.shape), "of the same levels for all methods")
