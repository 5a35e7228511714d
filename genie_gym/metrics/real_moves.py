"""The real moves of CoinRun, held like latent actions, to measure how much of the game's motion an action explains."""

import numpy as np
import torch
from torch import Tensor

from genie_gym.configs import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import NUM_MOVES, open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.players.specs import load_player

_WARM_UP_STEPS = 40
"""Steps of sticky-random play before each start, for varied states: falling, jumping, at a wall."""


def play_each_move(mode: str, levels: str, starts: int, frames: int, seed: int) -> Tensor:
    """Hold each of CoinRun's nine moves from the same states of the game.

    Args:
        mode: Procgen distribution mode.
        levels: ``test``, ``validation`` or ``training``.
        starts: Number of games M; games that any move ends are left out.
        frames: Number of frames for which each move is held.
        seed: Seed of games and play.

    Returns:
        (9, up to M, 1 + frames, C, 64, 64) float in [0, 1], in the format of ``motion.play_each_action``.

    Raises:
        ValueError: If there are no such levels, or no game is left.
        MissingExtraError: If procgen is not installed.
    """
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by RecordConfig
    games, player = open_games(config, seed=seed, num_envs=starts), load_player("sticky", seed)
    for _ in range(_WARM_UP_STEPS):
        games.act(player(games.observe().frames))
    states, alive, moves = games.save(), np.ones(starts, dtype=np.bool_), []
    for move in range(NUM_MOVES):
        games.restore(states)
        videos = [games.observe().frames.copy()]
        for _ in range(frames):
            games.act(np.full(starts, move, dtype=np.int32))
            now = games.observe()
            videos.append(now.frames.copy())
            alive &= ~now.episode_starts
        moves.append(np.stack(videos, axis=1))
    games.close()
    if not alive.any():
        raise ValueError(f"starts must be more: every game ended under one of the moves, got {starts}")
    return torch.stack([to_float(videos[alive]) for videos in moves])
