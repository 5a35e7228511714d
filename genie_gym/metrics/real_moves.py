"""The game's own moves, held as latent actions are: how far motion follows from an action alone even there."""

import numpy as np
import torch
from torch import Tensor

from genie_gym.configs import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import NUM_MOVES, open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.players.specs import load_player

WARM_UP = 40
"""Steps of sticky-random play before a start, so that some players fall, jump, or stand at a wall."""


def play_each_move(mode: str, levels: str, starts: int, frames: int, seed: int) -> Tensor:
    """Each of CoinRun's nine moves held from the same states of the game.

    Args:
        mode: Procgen's distribution mode.
        levels: ``test``, ``validation`` or ``training``.
        starts: Games, M; those that a move ends are left out.
        frames: For how many each move is held.
        seed: Of games and play.

    Returns:
        (9, up to M, 1 + frames, C, 64, 64): float in [0, 1]; the state's picture, then the game's, as
        ``motion.play_each_action`` returns a world's.

    Raises:
        ValueError: If there are no such levels, or no start is left.
        MissingExtraError: If procgen is not installed.
    """
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by RecordConfig
    games, player = open_games(config, seed=seed, num_envs=starts), load_player("sticky", seed)
    for _ in range(WARM_UP):
        games.act(player(games.observe().frames))
    states, goes_on, moves = games.save(), np.ones(starts, dtype=np.bool_), []
    for move in range(NUM_MOVES):
        games.restore(states)
        videos = [games.observe().frames.copy()]
        for _ in range(frames):
            games.act(np.full(starts, move, dtype=np.int32))
            now = games.observe()
            videos.append(now.frames.copy())
            goes_on &= ~now.episode_starts
        moves.append(np.stack(videos, axis=1))
    games.close()
    if not goes_on.any():
        raise ValueError(f"starts must be so many that a game goes on under every move, got {starts}")
    return torch.stack([to_float(videos[goes_on]) for videos in moves])
