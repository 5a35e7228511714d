"""Worlds and latent actions for play in fixed memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving.static_play import StaticPlay

Play = Callable[..., Tensor]


@pytest.fixture
def play_all() -> Play:
    """A function that starts rows from clips 0, 1, ... with seeds 5, 6, ... and plays latent actions (B, S).

    It returns the frames (1 + S, B, H, W, 3) uint8.
    """

    def run(world: GenieWorldModel, latent_actions: Tensor) -> Tensor:
        rows = range(len(latent_actions))
        play = StaticPlay(world, world.start_clips, len(rows))
        play.start(rows, rows, [5 + row for row in rows])
        frames = [play.frames.clone()]
        frames += [play.step(actions).clone() for actions in latent_actions.unbind(dim=1)]
        return torch.stack(frames)

    return run


@pytest.fixture
def some_actions() -> Callable[[int, int], Tensor]:
    return lambda rows, steps: torch.randint(8, (rows, steps), generator=torch.Generator().manual_seed(1))
