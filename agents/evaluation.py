"""How many levels an agent solves: each level once, none dropped for its length (Genie, figure 15)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from agents.acting import Agent
from genie_gym.configs import RecordConfig
from genie_gym.data.procgen import MAX_GAME_STEPS, open_levels
from genie_gym.metrics.held_out import LEVELS

Mode = Literal["easy", "hard"]
LevelSet = Literal["test", "validation"]
RETURN = 10.0
"""Of a solved level of CoinRun: its return over this is 1 if it was solved, else 0."""
RESAMPLES = 2000


class Outcome(NamedTuple):
    """Of L levels."""

    solved: np.ndarray
    """(L,) float64: return / 10."""
    env_steps: np.ndarray
    """(L,) int64: length of the episode."""


def choose_levels(levels: str, number: int) -> list[int]:
    """The first ``number`` seeds of ``test``, ``validation`` or ``training`` levels.

    Raises:
        ValueError: If there are not so many.
    """
    first, available = LEVELS[levels]
    if not 1 <= number <= available:
        raise ValueError(f"number must be in 1..{available}, the {levels} levels, got {number}")
    return list(range(first, first + number))


def play_levels(agent: Agent, mode: Mode, levels: Sequence[int]) -> Outcome:
    """Play each level once, all at the same time.

    Args:
        agent: With memory for L games.
        mode: Procgen's distribution mode.
        levels: L level seeds.

    Raises:
        AssertionError: If an episode does not end, which Procgen sees to.
    """
    games = open_levels(RecordConfig(mode=mode), levels, paint_velocity=agent.sees_velocity)
    number = len(levels)
    returns, lengths, is_over = np.zeros(number), np.zeros(number, dtype=np.int64), np.zeros(number, dtype=np.bool_)
    actions = np.zeros(number, dtype=np.int32)
    for step in range(MAX_GAME_STEPS + 1):
        now = games.observe()
        if step:
            returns += np.where(is_over, 0, now.rewards)
            is_over |= now.episode_starts
        rows = np.flatnonzero(~is_over)
        if len(rows) == 0:
            break
        lengths[rows] += 1
        actions[rows] = agent.act(rows, now.frames[rows], np.full(len(rows), step == 0))
        games.act(actions)
    games.close()
    assert is_over.all(), f"levels {np.array(levels)[~is_over]} did not end in {MAX_GAME_STEPS} steps"
    return Outcome(returns / RETURN, lengths)


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half of all values (arXiv 2108.13264); whole values, as ``scipy.stats.trim_mean`` counts."""
    ordered = np.sort(values, axis=None)
    cut = int(0.25 * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_interval(
    scores: np.ndarray, seed: int, statistic: Callable[[np.ndarray], float] = lambda drawn: float(drawn.mean())
) -> tuple[float, float]:
    """95 % interval of a statistic over seeds, each level a stratum of its own (arXiv 2108.13264).

    Args:
        scores: (S, L): of each seed on each level.
        seed: Of the resampling.
        statistic: Of (S, L) scores.

    Raises:
        ValueError: If there are no scores.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be (S, L) of one seed and level or more, got {scores.shape}")
    rng, (seeds, levels) = np.random.default_rng(seed), scores.shape
    drawn = [statistic(scores[rng.integers(seeds, size=(seeds, levels)), np.arange(levels)]) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def tell_solved(scores: np.ndarray, seed: int) -> dict[str, Any]:
    """Share solved over seeds and levels (S, L): mean with its interval, and interquartile mean of the seeds'."""
    return {
        "solved": float(scores.mean()),
        "interval": stratified_interval(scores, seed),
        "iqm": interquartile_mean(scores.mean(axis=1)),
        "by_seed": [float(each) for each in scores.mean(axis=1)],
    }


def count_solved(outcome: Outcome) -> dict[str, Any]:
    """What a row of results says of levels that were played: how many, the share solved, which, in how many steps."""
    return {
        "levels": len(outcome.solved),
        "solved": float(outcome.solved.mean()),
        "solved_by_level": "".join(str(int(each)) for each in outcome.solved),
        "env_steps": int(outcome.env_steps.sum()),
    }


def gather_seeds(
    rows: Iterable[Mapping[str, Any]], keys: Sequence[str], seed: int = 0
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows of all seeds as one: ``tell_solved`` by the values of ``keys``.

    Args:
        rows: Of results, with ``solved_by_level`` of ``count_solved``.
        keys: What tells rows apart that are not of another seed only.
        seed: Of intervals.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row["solved_by_level"])
    return {
        key: tell_solved(np.array([[float(each) for each in levels] for levels in several]), seed)
        for key, several in groups.items()
    }
