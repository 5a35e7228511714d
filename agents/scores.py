"""Rows of results gathered by method: levels solved, their intervals and differences, and the best blind method."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from agents.evaluation import SOLVED
from agents.experiment import Method
from agents.intervals import Estimate, estimate_difference, estimate_mean, estimate_normalised

Levels = Literal["all", "core"]
MethodKey = tuple[str, int | None]
"""A method's name and its number of labelled samples."""
_COLUMNS: dict[Levels, str] = {"all": "outcomes", "core": "core_outcomes"}


class Scores:
    """Levels solved by mode, method and number of labels, with the seeds of each gathered.

    Args:
        rows: Rows of ``count_outcomes`` with the ``mode``, ``method``, ``labels`` and ``seed`` of each.
        methods: The methods that the rows may be of, by name.
        seed: Seed of the resampling for all intervals.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], methods: Mapping[str, Method[Any]], seed: int) -> None:
        self._methods, self._seed = methods, seed
        self._rows: dict[tuple[str, MethodKey], list[Mapping[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: (row["mode"], row["seed"])):  # paired methods need one order of seeds
            self._rows.setdefault((row["mode"], (row["method"], row["labels"])), []).append(row)

    @property
    def modes(self) -> list[str]:
        """The modes with rows, in alphabetical order."""
        return list(dict.fromkeys(mode for mode, _ in self._rows))

    @property
    def keys(self) -> list[MethodKey]:
        """The methods with rows, in the order of ``methods`` and, within it, of the number of labels."""
        order = list(self._methods)
        return sorted({key for _, key in self._rows}, key=lambda key: (order.index(key[0]), key[1] or 0))

    def solved(self, mode: str, key: MethodKey, levels: Levels = "core") -> np.ndarray | None:
        """Return (S, L) float64, 1 where a seed solved a level; None without rows."""
        rows = self._rows.get((mode, key))
        return _read_solved(rows, levels) if rows else None

    def estimate(self, mode: str, key: MethodKey, levels: Levels = "core") -> Estimate | None:
        """Return the share of levels solved, None without rows."""
        solved = self.solved(mode, key, levels)
        return None if solved is None else estimate_mean(solved, self._seed)

    def compare(self, mode: str, key: MethodKey, other: MethodKey | None, levels: Levels = "core") -> Estimate | None:
        """Return the share of levels that one method solves minus that of another, for the seeds that both have.

        None without rows of either.
        """
        found = None if other is None else self._pair(mode, (key, other), levels)
        if found is None:
            return None
        solved, others = found
        return estimate_difference(solved, others, self._seed)

    def find_best_blind(self, mode: str) -> MethodKey | None:
        """Return the blind method, none that holds an action, that solves the most levels of the core."""
        solved = {key: self.solved(mode, key) for key in self.keys if self._methods[key[0]].kind == "blind"}
        means = {key: float(each.mean()) for key, each in solved.items() if each is not None}
        return max(means, key=lambda key: means[key]) if means else None

    def normalise(self, mode: str, key: MethodKey) -> Estimate | None:
        """Return a method's score on the core, on a scale from the best blind method (0) to the videos' player (1).

        All three are those of the seeds that all have. None without rows, or if the player does not solve more than the
        best blind method.
        """
        best = self.find_best_blind(mode)
        found = None if best is None else self._pair(mode, (key, best, ("player", None)), "core")
        if found is None:
            return None
        solved, blind, player = found
        return estimate_normalised(solved, blind, player, self._seed)

    def _pair(self, mode: str, keys: Sequence[MethodKey], levels: Levels) -> list[np.ndarray] | None:
        """Return what several methods solve, (S, L) each, for the seeds that all have rows of; None if there are none.

        A method that has rows for one seed only, whatever the seed, keeps them.
        """
        rows = {key: self._rows.get((mode, key), []) for key in keys}
        several = [key for key in rows if not self._methods[key[0]].has_one_seed]
        shared = set.intersection(*({row["seed"] for row in rows[key]} for key in several)) if several else set()
        for key in several:
            rows[key] = [row for row in rows[key] if row["seed"] in shared]
        return [_read_solved(rows[key], levels) for key in keys] if all(rows.values()) else None


def _read_solved(rows: Iterable[Mapping[str, Any]], levels: Levels) -> np.ndarray:
    """Return (S, L) float64, 1 where the row of a seed solved a level."""
    return np.array([[each == str(SOLVED) for each in row[_COLUMNS[levels]]] for row in rows], dtype=np.float64)
