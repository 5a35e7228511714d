"""A stub world without weights, so that the environments are tested in isolation."""

from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import genie_gym  # noqa: F401
from genie_gym.envs import WorldHandle
from genie_gym.envs.rewards import announce_zero_rewards

HEIGHT, WIDTH, LATENT_ACTIONS, CONTEXT_LENGTH = 8, 12, 5, 6


class StubState(NamedTuple):
    frames: Tensor
    velocities: Tensor
    seeds: tuple[int, ...]
    ages: tuple[int, ...]
    sampling: tuple[Any, Any]

    @property
    def tokens(self) -> Tensor:
        """Tokens (B, 1, 6) that tell frames apart: a colour of every fourth pixel."""
        return (self.frames[:, 0, ::4, ::4] * 255).round().long().flatten(1)[:, None]


class StubWorld:
    """A stub of ``GenieWorldModel``: each frame follows from the last one, the action, the seed and the age."""

    def __init__(self, start_clips: int = 4) -> None:
        self.config = SimpleNamespace(
            fps=None,
            height=HEIGHT,
            width=WIDTH,
            grid=(HEIGHT // 4, WIDTH // 4),
            num_latent_actions=LATENT_ACTIONS,
            context_length=CONTEXT_LENGTH,
            tokenizer=SimpleNamespace(quantizer=SimpleNamespace(codes=256)),
        )
        shape = (start_clips, 4, HEIGHT, WIDTH, 3)
        self.start_clips = np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)
        self.calls: Counter[str] = Counter()

    def __deepcopy__(self, memo: dict[int, Any]) -> "StubWorld":
        raise AssertionError("the world was copied")

    def begin(
        self, prompt_videos: Tensor, seeds: list[int], maskgit_steps: int | None = None, temperature: Any = None
    ) -> StubState:
        self.calls["begin"] += 1
        return self._open(prompt_videos, seeds, (maskgit_steps, temperature))

    def show(self, state: StubState, rows: list[int] | slice = slice(None)) -> Tensor:
        self.calls["show"] += 1
        return state.frames[rows]

    def advance(self, state: StubState, latent_actions: Tensor) -> StubState:
        self.calls["advance"] += 1
        assert latent_actions.dtype == torch.int64
        assert latent_actions.shape == (len(state.seeds),)
        noise = [np.random.default_rng([seed, age]).random() for seed, age in zip(state.seeds, state.ages, strict=True)]
        shift = torch.tensor(noise)[:, None, None, None] + 0.1 * (1 + latent_actions)[:, None, None, None]
        frames = ((state.frames + state.velocities + shift) % 1).float()
        return state._replace(frames=frames, ages=tuple(age + 1 for age in state.ages))

    def restart(self, state: StubState, rows: list[int], prompt_videos: Tensor, seeds: list[int]) -> StubState:
        self.calls["restart"] += 1
        fresh = self._open(prompt_videos, seeds, state.sampling)
        where = torch.as_tensor(rows)
        numbers = np.array([state.seeds, state.ages])
        numbers[:, rows] = [fresh.seeds, fresh.ages]
        return StubState(
            frames=state.frames.index_copy(0, where, fresh.frames),
            velocities=state.velocities.index_copy(0, where, fresh.velocities),
            seeds=tuple(numbers[0].tolist()),
            ages=tuple(numbers[1].tolist()),
            sampling=state.sampling,
        )

    def _open(self, videos: Tensor, seeds: list[int], sampling: tuple[Any, Any]) -> StubState:
        rows = len(seeds)
        assert videos.dtype == torch.float32
        assert videos.shape[2:] == (3, HEIGHT, WIDTH)
        assert len(videos) == rows
        assert 1 <= videos.shape[1] <= CONTEXT_LENGTH
        assert all(type(seed) is int for seed in seeds)
        velocities = videos[:, -1] - videos[:, 0] + 0.01 * videos.shape[1]
        return StubState(videos[:, -1], velocities, tuple(seeds), (0,) * rows, sampling)


def ends_sometimes(previous: np.ndarray, latent_actions: np.ndarray, frames: np.ndarray) -> Any:
    """A reward function of all its arguments that ends about a fifth of the episodes at each step."""
    sums = previous.sum(axis=(1, 2, 3), dtype=np.int64) + frames.sum(axis=(1, 2, 3), dtype=np.int64) + latent_actions
    return sums / 1000, sums * 7919 % 97 < 20


@pytest.fixture
def stub_world() -> StubWorld:
    return StubWorld()


@pytest.fixture
def handle(stub_world: StubWorld) -> WorldHandle:
    return WorldHandle(stub_world)  # type: ignore[arg-type]


@pytest.fixture
def bare_handle() -> WorldHandle:
    """A handle of a world that ships no start clips."""
    return WorldHandle(StubWorld(start_clips=0))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def unannounced() -> Iterator[None]:
    """Let each test start like a process in which zero rewards have not been announced yet."""
    announce_zero_rewards.cache_clear()
    yield
    announce_zero_rewards.cache_clear()


@pytest.fixture
def episode_ends() -> Callable[..., Any]:
    return ends_sometimes


@pytest.fixture
def prompt_image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def play(env: gym.Env, seed: int, actions: list[int]) -> np.ndarray:
    """Play an episode and return its frames, (1 + len(actions), H, W, 3)."""
    frames = [env.reset(seed=seed)[0], *(env.step(np.int64(action))[0] for action in actions)]
    return np.stack(frames)


@pytest.fixture(name="play")
def play_fixture() -> Callable[[gym.Env, int, list[int]], np.ndarray]:
    return play
