"""The games of ``experiments.games.five_games``: how their frames are made, and what their main axis is.

This is all that differs by game, and the axis is for scores alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from genie_gym.checks import require
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.env_games import EnvGames, find_action_space
from genie_gym.data.procgen import Games, open_games
from genie_gym.data.record import record
from genie_gym.metrics.action_groups import ActionGroups, find_groups
from genie_gym.metrics.held_out import CLIP_LENGTH, ClipPool, restrict
from genie_gym.players.specs import Player, PlayerShare, load_player, parse_share

_STICKY = "sticky(0.9)", "sticky(0.9, 0)"
"""The one player of all videos, which keeps an action for ten steps on average, in an environment and in Procgen."""


@dataclass(frozen=True, kw_only=True)
class ScoredGame:
    """A game whose videos a world learns, and the axis along which its actions are scored."""

    config: RecordConfig
    """what the game is, in its frames"""
    camera: str
    """what the camera does, in words"""
    axis: str
    """grouping of the game's actions that is its main axis, as in ``metrics.action_groups``"""
    axis_words: str
    """the main axis in words"""
    seen_by: Literal["camera", "thrust", "sprite", "paddle"]
    """what shows motion along the axis; ``motions`` has a reader for each"""
    tiles: int = 0
    """number of tiles across a frame, for ``sprite``"""

    def share_player(self) -> PlayerShare:
        """Return the player of the videos."""
        if self.config.env is None:
            return parse_share(_STICKY[1])
        return parse_share(_STICKY[0], find_action_space(self.config))

    def load_player(self, seed: int) -> Player:
        """Build the player of the videos."""
        if self.config.env is None:
            return load_player(_STICKY[1], seed)
        return load_player(_STICKY[0], seed, find_action_space(self.config))

    def open(self, levels: str, seed: int, num_envs: int) -> Games | EnvGames:
        """Open games on ``training``, ``validation`` or ``test`` levels; equal arguments give equal games."""
        config = restrict(self.config, levels)
        if config.env is None:
            return open_games(config, seed=seed, num_envs=num_envs)
        return EnvGames(config, seed, num_envs)

    def record_levels(self, levels: str, frames: int, seed: int, folder: Path) -> ClipPool:
        """Record ``training``, ``validation`` or ``test`` levels unless they are there, and return all clips."""
        config = replace(restrict(self.config, levels), frames=frames, seed=seed)
        record(config, [self.share_player()], folder, progress=False)
        dataset = ClipDataset(folder, clip_length=CLIP_LENGTH)
        return ClipPool(dataset, np.arange(len(dataset)), find_groups(dataset.attributes(0)))


def list_keys(groups: ActionGroups) -> Sequence[int]:
    """Return one action of each kind of the finest grouping: the keys that do different things."""
    kinds = groups.kinds[groups.finest]
    return [int(np.flatnonzero(kinds == kind)[0]) + groups.first for kind in np.unique(kinds)]


def find_game(name: str) -> ScoredGame:
    """Return the game of this name; ``ValueError`` if there is none."""
    require(name in _GAMES, "game", name, f"one of {sorted(_GAMES)}")
    return _GAMES[name]


def _procgen(game: str) -> RecordConfig:
    return RecordConfig(game=game, mode="easy")


def _atari(game: str) -> RecordConfig:
    return RecordConfig(env=f"ALE/{game}-v5", fit="pad", random_start=60, num_envs=16)


_SIDES = "left / still / right"
_GAMES = {
    "coinrun": ScoredGame(
        config=_procgen("coinrun"), camera="follows", axis="direction", axis_words=_SIDES, seen_by="camera"
    ),
    "ninja": ScoredGame(
        config=_procgen("ninja"), camera="follows", axis="direction", axis_words=_SIDES, seen_by="camera"
    ),
    "climber": ScoredGame(
        config=_procgen("climber"),
        camera="stands still from side to side, follows upwards",
        axis="direction",
        axis_words=_SIDES,
        seen_by="sprite",
        tiles=16,
    ),
    "breakout": ScoredGame(
        config=_atari("Breakout"),
        camera="stands still",
        axis="direction",
        axis_words="paddle left / neither / right",
        seen_by="paddle",
    ),
    "caveflyer": ScoredGame(
        config=_procgen("caveflyer"), camera="follows", axis="up", axis_words="thrust / none", seen_by="thrust"
    ),
    "leaper": ScoredGame(
        config=_procgen("leaper"),
        camera="stands still",
        axis="direction",
        axis_words=_SIDES,
        seen_by="sprite",
        tiles=9,
    ),
}
FIVE_GAMES = ("coinrun", "ninja", "climber", "breakout", "caveflyer")
"""Names of the games of the table, in its order; Leaper was tried in place of Climber, and is not measurable."""
