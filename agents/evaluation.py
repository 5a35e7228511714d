"""Counting the levels that an agent solves: each level is played once, and no episode is dropped (Genie, figure 15)."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from agents.acting import Agent, PlayerAgent
from agents.game import Game
from genie_gym.checks import require
from genie_gym.metrics.held_out import LEVELS

LevelSet = Literal["test", "validation"]
DIED, SOLVED, CUT_OFF = range(3)
"""Outcomes of an episode: ended unsolved, solved, or still running after the game's ``max_episode_steps``."""


class Outcome(NamedTuple):
    """The result of playing L levels of a game with R real actions."""

    outcomes: np.ndarray
    """(L,) int64: ``DIED``, ``SOLVED`` or ``CUT_OFF``."""
    env_steps: np.ndarray
    """(L,) int64: number of steps of the episode."""
    returns: np.ndarray
    """(L,) float64: sum of the episode's rewards."""
    actions: np.ndarray
    """(R,) int64: how often each real action was played."""

    @property
    def solved(self) -> np.ndarray:
        """(L,) float64: 1 for a solved level, else 0."""
        return (self.outcomes == SOLVED).astype(np.float64)


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
    actions, played = np.zeros(number, dtype=np.int32), np.zeros(game.num_actions, dtype=np.int64)
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
        played += np.bincount(actions[rows], minlength=game.num_actions)
        games.act(actions)
    games.close()
    assert is_over.all(), f"levels {np.array(levels)[~is_over]} did not end in {longest} steps"
    failed = np.where(lengths == longest, CUT_OFF, DIED)
    return Outcome(np.where(game.score_returns(returns) > 0, SOLVED, failed), lengths, returns, played)


def count_outcomes(
    outcome: Outcome, played: Sequence[int], levels: Sequence[int], core: Sequence[int]
) -> dict[str, Any]:
    """Return the counts of a row of results.

    ``solved``, ``deaths`` and ``timeouts`` add up to ``levels``; ``outcomes`` and ``core_outcomes`` have a digit for
    each level, its ``Outcome.outcomes``. ``mean_return`` is that of ``levels``; ``actions`` and ``env_steps`` count all
    levels played.

    Args:
        outcome: Outcome of the levels played.
        played: Seeds of the levels played, distinct, in the outcome's order.
        levels: Seeds of the levels that stand for all of them, each of them played.
        core: Seeds of the levels of the core, each of them played.
    """
    by_level = dict(zip(played, (int(each) for each in outcome.outcomes), strict=True))
    returns = dict(zip(played, outcome.returns, strict=True))
    every, hard = ([by_level[level] for level in seeds] for seeds in (levels, core))
    return {
        "levels": len(every),
        "solved": every.count(SOLVED),
        "core_levels": len(hard),
        "core_solved": hard.count(SOLVED),
        "deaths": every.count(DIED),
        "timeouts": every.count(CUT_OFF),
        "mean_return": round(float(np.mean([returns[level] for level in levels])), 4),
        "env_steps": int(outcome.env_steps.sum()),
        "actions": [int(each) for each in outcome.actions],
        "outcomes": "".join(map(str, every)),
        "core_outcomes": "".join(map(str, hard)),
    }
