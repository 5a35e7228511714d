"""Groupings of a game's real actions, in each of which latent actions are compared with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.procgen import NUM_MOVES, NUM_REAL_ACTIONS, direction, vertical
from genie_gym.data.shards import read_action_space

_IDLE = 4
"""Procgen's move that does nothing; its special keys do the same in CoinRun."""
_SIDES = ("LEFT", "", "RIGHT"), ("DOWN", "", "UP")


@dataclass(frozen=True)
class ActionGroups:
    """Kinds of the real actions of a game, by grouping; the finest grouping is the last one."""

    kinds: Mapping[str, np.ndarray]
    """name of a grouping -> (A,) int64 kind of each action"""
    names: Mapping[str, str]
    """name of a grouping -> readable name"""
    first: int = 0
    """number of the first action"""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of kinds in each grouping."""
        return {name: int(kinds.max()) + 1 for name, kinds in self.kinds.items()}

    @property
    def number(self) -> int:
        """Number of actions."""
        return len(self.kinds[self.finest])

    @property
    def finest(self) -> str:
        """Name of the finest grouping."""
        return list(self.kinds)[-1]

    def group(self, real_actions: Tensor) -> dict[str, Tensor]:
        """Map real actions (any shape, int64) to their kinds in each grouping; ``ValueError`` if one does not exist."""
        places = real_actions.numpy() - self.first
        number = self.number
        wrong = places[(places < 0) | (places >= number)]
        if wrong.size:
            rule = f"in [{self.first}, {self.first + number})"
            require(False, "real_actions", int(wrong.flat[0]) + self.first, rule)
        return {name: torch.from_numpy(kinds[places]) for name, kinds in self.kinds.items()}


def _group_procgen() -> ActionGroups:
    actions = np.arange(NUM_REAL_ACTIONS)
    kinds = {
        "direction": direction(actions) + 1,
        "up": (vertical(actions) == 1).astype(np.int64),
        "effective": np.where(actions < NUM_MOVES, actions, _IDLE),
    }
    names = {"direction": "left / still / right", "up": "up / none", "effective": "nine moves"}
    return ActionGroups(kinds, names)


PROCGEN_GROUPS = _group_procgen()
"""Groupings of Procgen's 15 actions."""


def group_by_names(number: int, names: Sequence[str], first: int = 0) -> ActionGroups:
    """Return groupings of an environment's actions: all of them, and by direction if their names tell it.

    Args:
        number: Number of actions.
        names: Names of the actions, such as Atari's ``UPRIGHT``; empty if they have none.
        first: Number of the first action.
    """
    kinds, words = dict[str, np.ndarray](), dict[str, str]()
    for axis, (low, _, high) in zip(("direction", "vertical"), _SIDES, strict=True):
        found = np.array([1 - (low in name.upper()) + (high in name.upper()) for name in names], dtype=np.int64)
        present = np.unique(found)
        if len(names) == number and len(present) > 1:
            kinds[axis] = np.searchsorted(present, found)
            sides = {0: low.lower(), 1: "neither", 2: high.lower()}
            words[axis] = " / ".join(sides[int(side)] for side in present)
    kinds["all"], words["all"] = np.arange(number), f"{number} actions"
    return ActionGroups(kinds, words, first)


def find_groups(attributes: Mapping[str, Any]) -> ActionGroups | None:
    """Return the groupings of a recording's actions from its shards' attributes; None if they are no known integers.

    Raises:
        ValueError: If the attributes are damaged.
    """
    if "game" in attributes:
        return PROCGEN_GROUPS
    if "num_actions" not in attributes:
        return None
    space = read_action_space("recording", attributes)
    return group_by_names(space.number, space.names, space.first)
