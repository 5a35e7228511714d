"""The core of a set of levels: those that the best constant action fails.

Holding right and jump for ever solves about 70 % of CoinRun's levels, so a score on all levels says little about what
an agent sees. The constant is chosen on validation levels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.blind import play_constant
from agents.evaluation import LevelSet, Outcome, choose_levels, play_levels
from agents.game import Game
from genie_gym.checks import require
from genie_gym.system import replace_file

_AT_ONCE = 250  # games open at the same time


class Core(NamedTuple):
    """The core of a level set, and the constant action that its levels were chosen by."""

    best_constant: int
    """The move that solves the most validation levels when it is held for ever."""
    constants_solved: list[int]
    """Number of validation levels that each constant move solves."""
    among: int
    """Number of levels of the set, and of validation levels, that were played."""
    seeds: list[int]
    """Seeds of the levels that the best constant fails, ascending."""


def find_core(game: Game, level_set: LevelSet, among: int) -> Core:
    """Play every constant move on ``among`` validation levels, and the best one on as many levels of the set.

    Raises:
        ValueError: If there are fewer levels, or the best constant solves all of them.
    """
    chosen_on, levels = choose_levels("validation", among), choose_levels(level_set, among)
    moves = np.unique(game.moves)
    solved = [int(_hold(game, int(move), chosen_on).sum()) for move in moves]
    best = int(moves[np.argmax(solved)])
    seeds = [level for level, is_solved in zip(levels, _hold(game, best, levels), strict=True) if not is_solved]
    require(bool(seeds), "among", among, f"so many that action {best}, held, fails one of the {level_set} levels")
    return Core(best, solved, among, seeds)


def cache_core(game: Game, level_set: LevelSet, among: int, path: Path) -> Core:
    """Return the core saved in the file ``path``, found and saved first if it is missing.

    Raises:
        ValueError: As ``find_core``.
    """
    if not path.exists():
        core = find_core(game, level_set, among)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps(core._asdict()))
    found: dict[str, Any] = json.loads(path.read_text())
    return Core(**found)


def _hold(game: Game, action: int, levels: Sequence[int]) -> np.ndarray:
    """Return (L,) float64: 1 for each level that holding the action solves."""
    parts: list[Outcome] = [
        play_levels(play_constant(action), game, levels[first : first + _AT_ONCE])
        for first in range(0, len(levels), _AT_ONCE)
    ]
    return np.concatenate([part.solved for part in parts])
