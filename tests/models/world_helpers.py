"""Helpers for tests of the world: play it, with a KV cache or without, compare frames, and record tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genie_gym.models.maskgit import draw_uniforms
from genie_gym.models.uncached import generate_uncached
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


@torch.no_grad()
def rollout_uncached(
    world: GenieWorldModel, prompts: Tensor, latent_actions: Tensor, seed: int = 0, window: int | None = None
) -> Tensor:
    """Do what ``GenieWorldModel.rollout`` does, recomputing all frames in every pass.

    Args:
        world: World in eval mode.
        prompts: (B, P, C, H, W) float in [0, 1]; all frames are used, also those beyond ``context_length``.
        latent_actions: (B, S) int64 in [0, A).
        seed: Seed of the first row.
        window: Number of frames in each pass, the new one included. ``None`` for all frames since the prompt, which
            equals the cache: each layer sees ``context_length`` frames of the layer below. ``context_length`` forgets
            everything older.

    Returns:
        (B, P + S, C, H, W) in [0, 1].
    """
    sampling, positions = world.sampling(), world.config.tokens_per_frame
    tokens = world.tokenizer.encode(prompts)
    labels = world.prompt_actions(prompts, tokens)
    actions = world.dynamics.previous_actions(torch.cat([labels, latent_actions], dim=1))
    frames = list(world.tokenizer.decode(tokens).unbind(dim=1))
    seeds = range(seed, seed + len(tokens))
    for age in range(latent_actions.shape[1]):
        start = 0 if window is None else max(0, tokens.shape[1] + 1 - window)
        uniforms = draw_uniforms(seeds, [age] * len(seeds), sampling, positions)
        seen, previous = tokens[:, start:], actions[:, start : tokens.shape[1] + 1]
        drawn, frame = generate_uncached(world, seen, previous, sampling, uniforms)
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
        frames.append(frame)
    return torch.stack(frames, dim=1)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether frames differ by rounding only; a single different token is 1000 times as far."""
    return one.shape == other.shape and bool((one - other).abs().max() < 1e-4)
