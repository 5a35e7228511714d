"""A ``Game`` of any Gymnasium environment with RGB frames and discrete actions that ``EnvGames`` can play."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from gymnasium import spaces

from genie_gym.checks import require
from genie_gym.data.config import RecordConfig, read_size
from genie_gym.data.env_games import EnvGames, find_action_space
from genie_gym.data.record import record
from genie_gym.metrics.held_out import restrict
from genie_gym.players.specs import PlayerShare, parse_share


class EnvBatch(EnvGames):
    """Games of an environment as a ``GameBatch`` whose states can be neither saved nor restored."""

    def save(self, rows: np.ndarray | None = None) -> list[bytes]:
        """Raise a ValueError: Gymnasium environments have no states to save."""
        raise ValueError(self._explain_states())

    def restore(self, states: Sequence[bytes]) -> None:
        """Raise a ValueError, as ``save`` does."""
        raise ValueError(self._explain_states())

    def _explain_states(self) -> str:
        needy = "the methods player_seen_latents and search, and players that plan, need them"
        return f"states of env {self.env!r} can be neither saved nor restored, but {needy}"


@dataclass(frozen=True, kw_only=True)
class EnvGame:
    """A game of a Gymnasium environment; a level is a seed of its ``reset``, solved from a return of ``goal`` on.

    Raises:
        ValueError: If the config has no ``env`` or no limit ``episode_steps``, or where the game is used, if its
            actions are not ``Discrete`` from 0 on, or its frames cannot be recorded.
    """

    has_states: ClassVar[bool] = False
    config: RecordConfig
    """What ``genie-gym record --env`` plays: environment, arguments, size, ``random_start`` and ``episode_steps``."""
    goal: float
    """Lowest return that solves a level."""
    skilled: str | None = None
    """Spec of the player that ``skilled`` names in this game; None if there is none."""

    def __post_init__(self) -> None:
        require(self.config.env is not None, "EnvGame.config.env", self.config.env, "the id of an environment")
        require(bool(np.isfinite(self.goal)), "EnvGame.goal", self.goal, "a finite number")
        steps = self.config.episode_steps
        require(steps > 0, "EnvGame.config.episode_steps", steps, "positive, so that every level ends")

    @functools.cached_property
    def action_space(self) -> spaces.Discrete:
        """Action space of the environment."""
        space = find_action_space(self.config)
        wanted = "Discrete with actions from 0 on; wrap it"
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ValueError(f"actions of env {self.config.env!r} must be {wanted}, got {space}")
        return space

    @property
    def num_actions(self) -> int:
        return int(self.action_space.n)

    @property
    def frame_size(self) -> tuple[int, int]:
        return read_size("EnvGame.config.size", self.config.size)

    @property
    def max_episode_steps(self) -> int:
        return self.config.episode_steps

    @property
    def moves(self) -> np.ndarray:
        return np.arange(self.num_actions)

    def find_player(self, spec: str) -> PlayerShare:
        return parse_share(self.skilled if spec == "skilled" and self.skilled else spec, self.action_space)

    def open_levels(self, levels: Sequence[int], paint_velocity: bool = False) -> EnvBatch:
        self._require_plain(paint_velocity)
        require(bool(levels), "levels", list(levels), "one or more level seeds")
        return EnvBatch(self.config, seed=0, num_envs=len(levels), levels=levels)

    def open_games(self, levels: str, num_envs: int, seed: int, paint_velocity: bool = False) -> EnvBatch:
        self._require_plain(paint_velocity)
        return EnvBatch(restrict(self.config, levels), seed, num_envs)

    def record(
        self, levels: str, player: str, out: Path, frames: int, seed: int, num_envs: int = 64, workers: int = 1
    ) -> list[Path]:
        config = replace(restrict(self.config, levels), frames=frames, num_envs=num_envs, seed=seed)
        return record(config, [self.find_player(player)], out, workers=workers)

    def score_returns(self, returns: np.ndarray) -> np.ndarray:
        return (returns >= self.goal).astype(np.float64)

    def _require_plain(self, paint_velocity: bool) -> None:
        told = f"False with env {self.config.env!r}, whose frames show no velocity but their own"
        require(not paint_velocity, "paint_velocity", paint_velocity, told)
