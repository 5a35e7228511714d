"""Generating a frame without a KV cache: the slow reference against which the cache is tested and timed."""

import torch
from torch import Tensor

from genie_gym.configs import SamplingConfig
from genie_gym.models.maskgit import sample
from genie_gym.models.world_model import GenieWorldModel


@torch.no_grad()
def generate_uncached(
    world: GenieWorldModel, tokens: Tensor, actions: Tensor, sampling: SamplingConfig, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Generate one frame, recomputing all frames before it in every MaskGIT step.

    Args:
        world: World in eval mode.
        tokens: (B, T, N) int64, tokens of the frames before the new one.
        actions: (B, T + 1) int64, action before each frame, from ``MaskGITDynamics.previous_actions``.
        sampling: MaskGIT steps and temperatures.
        uniforms: Random numbers of ``draw_uniforms``.

    Returns:
        The new frame's tokens, (B, N), and the frame, (B, C, H, W) in [0, 1].
    """
    hidden = world.dynamics.hidden_token
    empty = torch.full_like(tokens[:, 0], hidden)

    def predict(draft: Tensor) -> Tensor:
        frames_seen = torch.cat([tokens, draft[:, None]], dim=1)
        return world.dynamics.logits(world.dynamics(frames_seen, actions)[0][-1])

    drawn = sample(predict, empty, hidden, sampling, uniforms, world.draw_tokens)
    return drawn, world.tokenizer.decode(torch.cat([tokens, drawn[:, None]], dim=1))[:, -1]
