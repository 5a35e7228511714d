"""Counting the levels that an agent solves: each level is played once, and no episode is dropped (Genie, figure 15)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from agents.acting import Agent, PlayerAgent
from agents.game import Game
from genie_gym.checks import require
from genie_gym.metrics.held_out import LEVELS

LevelSet = Literal["test", "validation"]
_RESAMPLES = 2000


class Outcome(NamedTuple):
    """The result of playing L levels."""

    solved: np.ndarray
    """(L,) float64: 1 for a solved level, else 0."""
    env_steps: np.ndarray
    """(L,) int64: number of steps of the episode."""


def choose_levels(levels: str, number: int) -> list[int]:
    """Return the first ``number`` seeds of the ``test``, ``validation`` or ``training`` levels.

    Raises:
        ValueError: If there are fewer levels.
    """
    first, available = LEVELS[levels]
    require(1 <= number <= available, "number", number, f"in 1..{available}, the {levels} levels")
    return list(range(first, first + number))


def play_levels(agent: Agent, game: Game, levels: Sequence[int]) -> Outcome:
    """Play L levels, given by their seeds, once each and all at the same time; the agent needs memory for L games.

    Raises:
        AssertionError: If an episode is longer than the game's ``max_episode_steps``.
    """
    games = game.open_levels(levels, paint_velocity=agent.sees_velocity)
    if isinstance(agent, PlayerAgent):
        agent.games = games
    number, longest = len(levels), game.max_episode_steps
    returns, lengths, is_over = np.zeros(number), np.zeros(number, dtype=np.int64), np.zeros(number, dtype=np.bool_)
    actions = np.zeros(number, dtype=np.int32)
    for step in range(longest + 1):
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
    assert is_over.all(), f"levels {np.array(levels)[~is_over]} did not end in {longest} steps"
    return Outcome(game.score_returns(returns), lengths)


def interquartile_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half of all values (arXiv 2108.13264), cut as ``scipy.stats.trim_mean`` does."""
    ordered = np.sort(values, axis=None)
    cut = int(0.25 * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_interval(
    scores: np.ndarray, seed: int, statistic: Callable[[np.ndarray], float] = lambda drawn: float(drawn.mean())
) -> tuple[float, float]:
    """Return a statistic's 95 % bootstrap interval over seeds, with each level as a stratum (arXiv 2108.13264).

    Args:
        scores: (S, L) score of each seed on each level.
        seed: Seed of the resampling.
        statistic: Function of (S, L) scores.

    Raises:
        ValueError: If there are no scores.
    """
    is_table = scores.ndim == 2 and 0 not in scores.shape
    require(is_table, "scores", scores.shape, "(S, L) of one seed and level or more")
    rng, (seeds, levels) = np.random.default_rng(seed), scores.shape
    drawn = [statistic(scores[rng.integers(seeds, size=(seeds, levels)), np.arange(levels)]) for _ in range(_RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def summarize_solved(scores: np.ndarray, seed: int) -> dict[str, Any]:
    """Summarize scores (S, L): mean and its interval, and the seeds' means with their interquartile mean."""
    return {
        "solved": float(scores.mean()),
        "interval": stratified_interval(scores, seed),
        "iqm": interquartile_mean(scores.mean(axis=1)),
        "by_seed": [float(each) for each in scores.mean(axis=1)],
    }


def count_solved(outcome: Outcome) -> dict[str, Any]:
    """Return a row of results: number of levels, share solved, a digit per level (1 if solved), and total steps."""
    return {
        "levels": len(outcome.solved),
        "solved": float(outcome.solved.mean()),
        "solved_by_level": "".join(str(int(each)) for each in outcome.solved),
        "env_steps": int(outcome.env_steps.sum()),
    }


def gather_seeds(
    rows: Iterable[Mapping[str, Any]], keys: Sequence[str], seed: int = 0
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Group rows of ``count_solved`` that differ in their seed only, and return ``summarize_solved`` of each group.

    A group is identified by its values of ``keys``; ``seed`` determines the resampling for the intervals.
    """
    groups: dict[tuple[Any, ...], list[list[float]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append([float(each) for each in row["solved_by_level"]])
    return {key: summarize_solved(np.array(scores), seed) for key, scores in groups.items()}
