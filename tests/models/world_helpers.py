"""Helpers for tests of the world: play it, compare frames, and record tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel
from genie_gym.models.world_state import WorldState

Make = Callable[[str], GenieWorldModel]
Videos = Callable[..., Tensor]
ACTIONS = 8


def some_actions(batch: int, steps: int, seed: int = 0) -> Tensor:
    return torch.randint(ACTIONS, (batch, steps), generator=torch.Generator().manual_seed(seed))


def record_tokens(world: GenieWorldModel) -> list[Tensor]:
    """Return a list that receives the tokens (B, 1, N) of each frame drawn from now on."""
    drawn: list[Tensor] = []
    draw = world._draw

    def spy(*inputs: Any) -> Tensor:
        drawn.append(draw(*inputs))
        return drawn[-1]

    world._draw = spy  # type: ignore[method-assign, assignment]
    return drawn


def tensors(state: WorldState) -> list[Tensor]:
    """Return the keys and values of all KV caches."""
    caches = [state.dynamics, state.decoder]
    return [part for cache in caches for block in cache.blocks if block is not None for part in block]


def play(world: GenieWorldModel, state: WorldState, latent_actions: Tensor) -> tuple[WorldState, Tensor]:
    """Play actions (B, S), and return the last state and the frames (B, S, C, H, W)."""
    frames = []
    for actions in latent_actions.unbind(dim=1):
        state, frame = world.step(state, actions)
        frames.append(frame)
    return state, torch.stack(frames, dim=1)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether frames differ by rounding only; a single different token is 1000 times as far."""
    return one.shape == other.shape and bool((one - other).abs().max() < 1e-4)
