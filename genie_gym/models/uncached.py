"""Playing a world without a KV cache: the slow reference against which the cache is tested and timed."""

import torch
from torch import Tensor

from genie_gym.configs import SamplingConfig
from genie_gym.models.maskgit import draw_uniforms, sample
from genie_gym.models.world_model import GenieWorldModel


@torch.no_grad()
def rollout_uncached(
    world: GenieWorldModel,
    prompt_videos: Tensor,
    latent_actions: Tensor,
    seed: int = 0,
    maskgit_steps: int | None = None,
    temperature: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Do what ``GenieWorldModel.rollout`` does, recomputing all frames in every pass.

    Args:
        world: World in eval mode.
        prompt_videos: (B, P, C, H, W) float in [0, 1]; all frames are used, also those beyond ``context_length``.
        latent_actions: (B, S) int64 in [0, A).
        seed: Seed of the first row.
        maskgit_steps: MaskGIT steps per frame; ``None`` for the config's.
        temperature: Sampling temperature; ``None`` for the config's.
        window: Number of frames in each pass, the new one included. ``None`` for all frames since the prompt, which
            equals the cache: each layer sees ``context_length`` frames of the layer below. ``context_length`` forgets
            everything older.

    Returns:
        (B, P + S, C, H, W) in [0, 1].
    """
    sampling, positions = world.sampling(maskgit_steps, temperature), world.config.tokens_per_frame
    prompts = prompt_videos.to(world.device)
    tokens = world.tokenizer.encode(prompts)
    labels = world.prompt_actions(prompts, tokens)
    actions = world.dynamics.previous_actions(torch.cat([labels, latent_actions.to(world.device)], dim=1))
    frames = list(world.tokenizer.decode(tokens).unbind(dim=1))
    seeds = range(seed, seed + len(tokens))
    for age in range(latent_actions.shape[1]):
        start = 0 if window is None else max(0, tokens.shape[1] + 1 - window)
        uniforms = draw_uniforms(seeds, [age] * len(seeds), sampling, positions).to(world.device)
        seen, previous = tokens[:, start:], actions[:, start : tokens.shape[1] + 1]
        drawn, frame = generate_uncached(world, seen, previous, sampling, uniforms)
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
        frames.append(frame)
    return torch.stack(frames, dim=1)


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
