"""Agents that dreamt from the first frames of the levels they are tested on, as in the paper's figure 14.

    python -m agents.dream_seen_levels --preset full

The world's episodes start from the first four frames of every level that is played, so these levels are not new to the
agents: their scores say how well dreams carry over, and nothing about unseen levels. All levels are validation levels.
Methods, sizes and columns are those of ``agents.dream_transfer``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.acting import PlayerAgent
from agents.dream_transfer import DreamStore, DreamTransfer
from agents.game import GameName
from agents.windows import Footage
from genie_gym.data.shards import SHARD_SUFFIX, Recording, write_shard
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES
from genie_gym.failures import run_command
from genie_gym.players.specs import load_player, parse_share
from genie_gym.results.experiment import Row


class SeenLevelsStore(DreamStore):
    """A store whose dreams start from the first frames of the levels that are played."""

    learns_from_levels_played = True

    @property
    def starts(self) -> Path:
        """Folder with the first frames of each level that is played, recorded first if they are missing."""
        folder = self.work / "first-frames"
        if not list(folder.glob(f"*{SHARD_SUFFIX}")):
            levels = self.experiment.choose_levels(self.mode)
            folder.mkdir(parents=True, exist_ok=True)
            write_shard(folder / f"levels{SHARD_SUFFIX}", self._play_first_frames(levels), [self.experiment.player])
        return folder

    def _play_first_frames(self, levels: list[int]) -> Recording:
        """Return the first four frames of each of L levels as episodes of their own; the videos' player plays them."""
        player = load_player(self.experiment.player, self.experiment.seed)
        agent = PlayerAgent(player, parse_share(self.experiment.player).sees_velocity)
        plain, seen = self.game.open_levels(levels), self.game.open_levels(levels, agent.sees_velocity)
        agent.games = seen
        recording = Recording.allocate((len(levels), MAX_PROMPT_FRAMES), *self.game.frame_size)
        rows = np.arange(len(levels))
        for step in range(MAX_PROMPT_FRAMES):
            recording.frames[:, step] = plain.observe().frames
            actions = agent.act(rows, seen.observe().frames, np.full(len(levels), step == 0))
            for games in (plain, seen):
                games.act(actions)
        for games in (plain, seen):
            games.close()
        recording.episode_starts[:] = np.arange(MAX_PROMPT_FRAMES) == 0
        recording.level_seeds[:] = np.array(levels)[:, None]
        for unused in (recording.player, recording.real_actions, recording.rewards):
            unused[:] = 0
        return Recording(*(array.reshape(-1, *array.shape[2:]) for array in recording))


@dataclass(frozen=True, kw_only=True)
class DreamOnSeenLevels(DreamTransfer):
    """Train agents in the world from the first frames of the levels that they then play in the real game."""

    name = "dream_seen_levels"
    level_set: Literal["validation"] = "validation"
    """set of levels to dream on and to play"""
    methods: tuple[str, ...] = ("random_latents", "dream", "best_constant", "random", "marginal")
    """methods to run now; others can follow in a later run"""

    def open(self, mode: GameName, footage: Footage | None = None) -> SeenLevelsStore:
        return SeenLevelsStore(self, mode, footage)

    def describe_settings(self, **others: Any) -> Row:
        return super().describe_settings(starts="the first frames of the levels played", **others)


if __name__ == "__main__":
    run_command(DreamOnSeenLevels)
