"""Worlds with random weights, in memory and on disk, variants of their config, and synthetic videos."""

from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genie_gym.config_io import vary
from genie_gym.configs import MovingActionConfig, TransformerActionConfig, TransformerConfig, WorldConfig
from genie_gym.extras import MissingExtraError
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS

torch.set_num_threads(1)  # such small tensors are slower on more, and sums then depend on how a batch is split

STACK: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "head_dim": 16, "feed_forward_width": 32}
CODES = PRESETS["tiny"].world.latent_action_model.quantizer
ST_LAM = {
    "latent_action_model": TransformerActionConfig(
        quantizer=CODES, encoder=TransformerConfig(**STACK), decoder=TransformerConfig(**STACK)
    )
}
MOVING_LAM = {"latent_action_model": MovingActionConfig(quantizer=CODES, width=8, history=2)}
VARIANTS: dict[str, dict[str, Any]] = {
    "additive": {},
    "token": {"dynamics.action_conditioning": "token"},
    "film": {"dynamics.action_conditioning": "film"},
    "full": {"tokenizer.encoder.attention": "full", "tokenizer.decoder.attention": "full"},
    "spatial": {"tokenizer.encoder.attention": "spatial", "tokenizer.decoder.attention": "spatial"},
    "fsq": {
        "tokenizer.quantizer": {"kind": "fsq", "codes": 64, "levels": (4, 4, 4)},
        "latent_action_model.quantizer": {"kind": "fsq", "codes": 8, "levels": (2, 4)},
    },
    "st-lam": ST_LAM,
    "moving": MOVING_LAM,
    "boxed": {**MOVING_LAM, "latent_action_model.agent_box": (28, 28, 8, 8)},
    "token-lam": {**ST_LAM, "latent_action_model.inputs": "tokens"},
    "folded": {"tokenizer.patch_size": 8, "tokenizer.fold": 2, "dynamics.fold": 2},
    "conv": {
        "tokenizer.patch_size": 8,
        "tokenizer.encoder.attention": "conv",
        "tokenizer.decoder.attention": "conv",
        "dynamics.fold": 2,
    },
    "oblong": {"height": 45, "width": 77, "tokenizer.patch_size": 8, **ST_LAM},  # padded to 48 x 80
}
"""Overrides of ``tiny`` by name; each variant takes another path through the code."""


def shake(module: nn.Module, seed: int = 0, size: float = 0.5) -> nn.Module:
    """Add noise to every weight, so that branches initialised to zero or one have an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = size if parameter.ndim < 2 else size * parameter[0].numel() ** -0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def build_world(config: WorldConfig, seed: int = 0, start_clips: int = 4) -> GenieWorldModel:
    """Return a world in eval mode whose frames vary with tokens, actions and seeds."""
    clips = np.random.default_rng(seed).integers(256, size=(start_clips, 4, config.height, config.width, 3))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        world = GenieWorldModel(config, clips.astype(np.uint8))
    shake(world, seed)
    return calibrate(world.eval().requires_grad_(False))


@torch.no_grad()
def calibrate(world: GenieWorldModel) -> GenieWorldModel:
    """Imitate training: make the dynamics prefer some tokens and the latents use all labels."""
    world.dynamics.head.weight *= 6
    model, config = world.latent_action_model, world.config
    videos = random_videos(8, 4, config.height, config.width)
    read = world.tokenizer.encode(videos) if model.reads_tokens else videos
    latents = model.backbone.encode(read, torch.float32).latents
    model.latent_norm.running_mean.copy_(latents.mean(dim=(0, 1)))
    model.latent_norm.running_var.copy_(latents.var(dim=(0, 1)))
    return world


def random_videos(batch: int, frames: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """Return noise (B, T, 3, H, W) in [0, 1], different in every frame."""
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def moving_squares(batch: int, frames: int, size: int = 64, seed: int = 0) -> Tensor:
    """Return videos (B, T, 3, H, W) in [0, 1] of a bright square that jumps left, right or not at all."""
    rng = np.random.default_rng(seed)
    videos = np.empty((batch, frames, 3, size, size), dtype=np.float32)
    videos[:] = rng.uniform(0, 0.5, (batch, 1, 3, 1, 1))
    for video in videos:
        row, column = rng.integers(0, size - 16, 2)
        for frame in video:
            frame[:, row : row + 16, column : column + 16] = 1.0
            column = (column + rng.choice([-8, 0, 8])) % (size - 16)
    return torch.from_numpy(videos)


def _skip_without_procgen() -> Generator[None, object, object]:
    """Skip a test that cannot play Procgen's games because they are not installed, as on Python 3.13 or numpy 2."""
    try:
        return (yield)
    except (MissingExtraError, SystemExit) as error:  # the command line turns the former into the latter
        cause = error if isinstance(error, MissingExtraError) else error.__cause__
        if find_spec("procgen") is None and isinstance(cause, MissingExtraError) and "[procgen]" in str(cause):
            pytest.skip(str(cause))
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _skip_without_procgen())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skip_without_procgen())


@pytest.fixture(scope="session", autouse=True)
def _keep_sb3_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the log folders that Stable-Baselines3 creates in a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield


@pytest.fixture(scope="session")
def tiny_config() -> WorldConfig:
    return PRESETS["tiny"].world


@pytest.fixture(scope="session")
def tiny_world(tiny_config: WorldConfig) -> GenieWorldModel:
    """Return the ``tiny`` preset with shaken weights, shared by all tests: do not change it."""
    return build_world(tiny_config)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_world: GenieWorldModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of ``tiny_world`` saved as a checkpoint."""
    return save_world(tiny_world, tmp_path_factory.mktemp("worlds") / "tiny")


@pytest.fixture(scope="session")
def variants(tiny_config: WorldConfig) -> dict[str, WorldConfig]:
    """Return the configs of ``VARIANTS`` by name."""
    return {name: vary(tiny_config, overrides) for name, overrides in VARIANTS.items()}


@pytest.fixture(scope="session")
def make_world(variants: dict[str, WorldConfig]) -> Callable[[str], GenieWorldModel]:
    """Return a function that builds a new shaken world of a named variant."""
    return lambda name: build_world(variants[name])


@pytest.fixture(scope="session", name="vary")
def vary_fixture() -> Callable[..., Any]:
    return vary


@pytest.fixture(scope="session", name="shake")
def shake_fixture() -> Callable[..., nn.Module]:
    return shake


@pytest.fixture(scope="session", name="random_videos")
def random_videos_fixture() -> Callable[..., Tensor]:
    return random_videos


@pytest.fixture(scope="session", name="moving_squares")
def moving_squares_fixture() -> Callable[..., Tensor]:
    return moving_squares


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start each test from the same torch seed."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture
def pygame(no_screen: None) -> Any:
    return pytest.importorskip("pygame")
