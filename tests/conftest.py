"""A world of random weights, in memory and on disk, and videos to try things on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genie_gym.configs import WorldConfig
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS


def shake(module: nn.Module, seed: int = 0, size: float = 0.3) -> nn.Module:
    """Add noise to every weight, so that branches that start at zero or one are no longer silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = size if parameter.ndim < 2 else size * parameter[0].numel() ** -0.5
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module


def build_world(config: WorldConfig, seed: int = 0, start_frames: int = 4) -> GenieWorldModel:
    """A world in eval mode whose frames vary with tokens, actions and seeds."""
    frames = np.random.default_rng(seed).integers(256, size=(start_frames, config.height, config.width, 3))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        world = GenieWorldModel(config, frames.astype(np.uint8))
    shake(world, seed)
    return world.eval().requires_grad_(False)


def random_videos(batch: int, frames: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """(B, T, 3, H, W) noise in [0, 1]: every frame unlike the others."""
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def tiny_config() -> WorldConfig:
    return PRESETS["tiny"].world


@pytest.fixture(scope="session")
def tiny_world(tiny_config: WorldConfig) -> GenieWorldModel:
    """The ``tiny`` preset with shaken weights; shared, so set nothing on it."""
    return build_world(tiny_config)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_world: GenieWorldModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_world`` on disk."""
    return save_world(tiny_world, tmp_path_factory.mktemp("worlds") / "tiny")


@pytest.fixture(scope="session", name="shake")
def shake_fixture() -> Callable[..., nn.Module]:
    return shake


@pytest.fixture(scope="session", name="build_world")
def build_world_fixture() -> Callable[..., GenieWorldModel]:
    return build_world


@pytest.fixture(scope="session", name="random_videos")
def random_videos_fixture() -> Callable[..., Tensor]:
    return random_videos


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test starts from the same torch seed, whatever ran before it."""
    torch.manual_seed(0)
