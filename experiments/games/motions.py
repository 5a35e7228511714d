"""How motion along a game's main axis is read from frames, the same way in the game and in a world.

A camera that follows the player moves the whole picture. Where it stands still, the player's sprite or paddle is looked
for; where the axis is thrust, the motion that counts is that in the direction in which the game's own thrust goes.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.data.clips import Batch
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float, to_uint8
from genie_gym.data.procgen import FRAME_SIZE, open_games
from genie_gym.data.procgen_state import read_position
from genie_gym.metrics.motion import track_player
from genie_gym.models.base import LossOutput
from genie_gym.nn.convolution import SteeredUNet
from genie_gym.players.breakout import PADDLE_ROWS, find_red
from genie_gym.players.random import StickyRandom
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.training.loop import Phase, Trainee

Motion = Callable[[Tensor], Tensor]
"""Function from videos (A, M, T, C, H, W) of A actions from M starts to pixels since the first frame (A, M, T) float64;
NaN for a start whose motion cannot be told."""
_LEAST_THRUST = 2.0
"""Pixels by which thrust has to carry the player from a start, so that its direction is known."""
_SPRITE_GAMES, _STEPS_APART, _WIDTH = 64, 4, 16
"""Games played for a ``SpriteFinder``, steps between two of their frames, and width of its network."""


def see_camera(videos: Tensor) -> Tensor:
    """Return how far the player has gone to the right, with a camera that keeps it in the middle; see ``Motion``."""
    return track_player(videos)[..., 0]


def see_paddle(videos: Tensor) -> Tensor:
    """Return how far the paddle of Breakout has gone to the right; see ``Motion``. An unseen paddle has not moved."""
    frames = to_uint8(videos.flatten(0, 2))
    columns = torch.from_numpy(find_red(frames, *PADDLE_ROWS)).view(videos.shape[:3])
    return (columns - columns[..., :1]).nan_to_num(0.0)


class Thrust(NamedTuple):
    """Motion in the direction of thrust, which differs from start to start."""

    headings: Tensor
    """(M, 2) unit vectors, right and up; NaN where thrust hardly moves the player."""

    def see(self, videos: Tensor) -> Tensor:
        """Return how far the player has gone along its heading; see ``Motion``."""
        return (track_player(videos) * self.headings[:, None]).sum(dim=-1)


def find_thrust(pushed: Tensor, idle: Tensor) -> Thrust:
    """Find the direction of thrust: where it carries the player, beyond where no key does.

    Args:
        pushed: (M, T, C, H, W) the game with the key of thrust held.
        idle: (M, T, C, H, W) the game with no key held, from the same starts.
    """
    carried = (track_player(pushed) - track_player(idle))[:, -1]
    length = carried.norm(dim=-1, keepdim=True)
    return Thrust(torch.where(length >= _LEAST_THRUST, carried / length, torch.nan))


class SpriteFinder(Trainee):
    """A small network that tells the column of the player's sprite, taught by saved states of the game."""

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.network = SteeredUNet(3, _WIDTH, 1, None)
        self._columns = columns

    def loss(self, batch: Batch) -> LossOutput:
        """Return the cross-entropy of the column of the sprite, which may be in any row."""
        found = self._columns[batch.numbers]
        loss = F.cross_entropy(self._score_columns(batch.videos[:, 0]), found.round().long())
        return LossOutput(loss, {})

    @torch.no_grad()
    def find(self, frames: Tensor) -> Tensor:
        """Return the mean columns (N,) float64 of the sprite in frames (N, C, H, W)."""
        chances = torch.cat([self._score_columns(part) for part in frames.split(256)]).double().softmax(dim=1)
        return chances @ torch.arange(frames.shape[-1], dtype=torch.float64)

    def see(self, videos: Tensor) -> Tensor:
        """Return how far the sprite has gone to the right; see ``Motion``."""
        columns = self.find(videos.flatten(0, 2)).view(videos.shape[:3])
        return columns - columns[..., :1]

    def _score_columns(self, frames: Tensor) -> Tensor:
        return self.network(frames - 0.5)[:, 0].logsumexp(dim=-2)  # (N, 1, H, W) -> (N, W)


def teach_sprites(
    config: RecordConfig, tiles: int, frames: int, train_steps: int, seed: int, folder: Path
) -> SpriteFinder:
    """Train a ``SpriteFinder`` on random play of a Procgen game, whose saved states tell where its player is.

    Args:
        config: The game and its levels.
        tiles: Number of tiles across a frame, whose first column shows tile 0.
        frames: Number of frames to learn from.
        train_steps: Number of batches of 32 frames.
        seed: Seed of play, weights and batches.
        folder: Folder for the training run.
    """
    shown, columns = _play_with_positions(config, tiles, frames, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        finder = SpriteFinder(columns)
    training = replace(SMALL_NETWORK_TRAINING, train_steps=train_steps, seed=seed)

    def draw(first: int, number: int) -> Iterator[Batch]:
        for batch in range(first, first + number):
            numbers = np.random.default_rng([seed, batch]).integers(len(shown), size=training.batch_size)
            yield Batch(to_float(shown[numbers])[:, None], torch.from_numpy(numbers))

    Phase(draw, training, folder, progress=False).run(finder)
    return finder.eval()


def _play_with_positions(config: RecordConfig, tiles: int, frames: int, seed: int) -> tuple[np.ndarray, Tensor]:
    """Return frames (N, 64, 64, 3) uint8 of random play and the columns (N,) of the player's middle."""
    shown, columns = [], list[float]()
    opened = functools.partial(open_games, config, seed=seed, num_envs=_SPRITE_GAMES)
    player = StickyRandom(seed, right_bias=0)
    with contextlib.closing(opened()) as games:
        while len(columns) < frames:
            for _ in range(_STEPS_APART):
                games.act(player(games.views()))
            shown.append(games.observe().frames.copy())
            places = (read_position(state, config.game).x for state in games.save())
            columns += [min(max(0.0, place * FRAME_SIZE / tiles - 0.5), FRAME_SIZE - 1) for place in places]
    return np.concatenate(shown), torch.tensor(columns)
