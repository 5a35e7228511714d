"""Scripted worlds with known scores, and a small recording of CoinRun."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.record import record
from genie_gym.metrics.held_out import ClipPool
from genie_gym.players.specs import parse_shares


class ScriptedWorld:
    """A world whose state is brightness: each latent action adds to it, and labels are exact."""

    config = SimpleNamespace(num_latent_actions=4)
    device = torch.device("cpu")
    steps = torch.tensor([0.0, 0.01, 0.02, 0.03])

    def label(self, videos: Tensor) -> Tensor:
        change = (videos[:, 1:] - videos[:, :-1]).mean(dim=(2, 3, 4))
        return (change / 0.01).round().long()

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int, maskgit_steps: int | None = None) -> Tensor:
        added = self.steps[latent_actions].cumsum(dim=1)[:, :, None, None, None]
        return torch.cat([prompts, prompts[:, -1:] + added], dim=1)


class CopyingWorld(ScriptedWorld):
    """Ignores its latent actions and repeats the prompt."""

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int, maskgit_steps: int | None = None) -> Tensor:
        return torch.cat([prompts, prompts[:, -1:].expand(-1, latent_actions.shape[1], -1, -1, -1)], dim=1)


class DeafWorld(ScriptedWorld):
    """Changes by noise that does not depend on the latent actions."""

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int, maskgit_steps: int | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed + int(latent_actions.sum()))
        noise = 0.02 * torch.rand(latent_actions.shape, generator=generator)
        return torch.cat([prompts, prompts[:, -1:] + noise.cumsum(dim=1)[:, :, None, None, None]], dim=1)


class ShiftingWorld(ScriptedWorld):
    """Latent action 0 shifts the picture 2 pixels to the right a frame, 1 to the left, 2 up, 3 not at all."""

    shifts = ((0, 2), (0, -2), (-2, 0), (0, 0))

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int, maskgit_steps: int | None = None) -> Tensor:
        frames = [prompts[:, -1]]
        for actions in latent_actions.unbind(dim=1):
            moved = [
                torch.roll(frame, self.shifts[action], dims=(-2, -1))
                for frame, action in zip(frames[-1], actions.tolist(), strict=True)
            ]
            frames.append(torch.stack(moved))
        return torch.stack(frames, dim=1)


@pytest.fixture
def scripted_world() -> ScriptedWorld:
    return ScriptedWorld()


@pytest.fixture
def copying_world() -> CopyingWorld:
    return CopyingWorld()


@pytest.fixture
def deaf_world() -> DeafWorld:
    return DeafWorld()


@pytest.fixture
def shifting_world() -> ShiftingWorld:
    return ShiftingWorld()


@pytest.fixture(scope="session")
def coinrun_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,096 frames of CoinRun, sticky-random play of 16 games."""
    out = tmp_path_factory.mktemp("coinrun")
    record(RecordConfig(frames=4096, num_envs=16), parse_shares(["sticky"]), out, progress=False)
    return out


@pytest.fixture(scope="session")
def coinrun_pool(coinrun_shards: Path) -> ClipPool:
    """All clips of 16 frames of the recording."""
    dataset = ClipDataset(coinrun_shards)
    return ClipPool(dataset, np.arange(len(dataset)))


@pytest.fixture(scope="session")
def coinrun_clips(coinrun_pool: ClipPool) -> Tensor:
    """96 clips of the recording, (96, 16, 3, 64, 64)."""
    return coinrun_pool.draw(96, seed=0).videos
