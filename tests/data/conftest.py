"""Synthetic recordings, and one of a real game."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genie_gym.data.config import RecordConfig
from genie_gym.data.record import record
from genie_gym.data.shards import Recording, write_shard
from genie_gym.players.specs import parse_share

SMALL = RecordConfig(frames=700, num_envs=4, frames_per_shard=300, num_levels=50, start_level=7, seed=3)


@pytest.fixture
def make_recording() -> Callable[..., Recording]:
    """Return a function that makes noise frames, numbered in their first pixel, in episodes of given lengths."""

    def make(lengths: tuple[int, ...] = (20, 5, 40), size: int = 64) -> Recording:
        total, starts = sum(lengths), np.cumsum((0, *lengths[:-1]))
        rng = np.random.default_rng(total)
        frames = rng.integers(256, size=(total, size, size, 3), dtype=np.uint8)
        frames[:, 0, 0, 0] = np.arange(total)
        return Recording(
            frames=frames,
            episode_starts=np.isin(np.arange(total), starts),
            level_seeds=np.repeat(np.arange(len(lengths)) + 100, lengths),
            player=np.repeat(np.arange(len(lengths)) % 2, lengths).astype(np.uint8),
            real_actions=np.arange(total, dtype=np.int32) % 15,
            rewards=np.arange(total, dtype=np.float32),
        )

    return make


@pytest.fixture
def shard_path(tmp_path: Path, make_recording: Callable[..., Recording]) -> Path:
    """Return a shard of three episodes of 20, 5 and 40 frames."""
    path = tmp_path / "shard-00000.h5"
    write_shard(path, make_recording(), ["left", "right"], {"game": "coinrun"})
    return path


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 700 frames of CoinRun in three shards, by two players."""
    out = tmp_path_factory.mktemp("recorded")
    record(SMALL, [parse_share("sticky=3"), parse_share("random")], out, progress=False)
    return out


@pytest.fixture
def small_config() -> RecordConfig:
    """Return the config of ``recorded``."""
    return SMALL
