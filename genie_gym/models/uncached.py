"""Play without a cache: every pass over all frames. Slow; what the cache is tested and timed against."""

import torch
from torch import Tensor

from genie_gym.models.maskgit import sample
from genie_gym.models.world_model import GenieWorldModel, draw_uniforms


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
    """``GenieWorldModel.rollout`` by full recomputation.

    Args:
        world: Whose weights.
        prompt_videos: (B, P, C, H, W) float in [0, 1].
        latent_actions: (B, S) int64 in [0, A).
        seed: Of the first row.
        maskgit_steps: Passes a frame; ``None`` for the config's.
        temperature: ``None`` for the config's.
        window: Frames a pass goes over, the new one among them. ``None`` for all since the prompt, which the cache
            equals: each layer sees ``context_length`` frames of the layer below. With ``context_length`` nothing
            older counts at all, at the price of forgetting it.

    Returns:
        (B, P + S, C, H, W) in [0, 1].
    """
    sampling, places = world.sampling(maskgit_steps, temperature), world.config.tokens_per_frame
    prompts = prompt_videos.to(world.device)
    tokens = world.tokenizer.encode(prompts)
    labels = world.label(prompts) if prompts.shape[1] > 1 else tokens[:, :0, 0]
    lead = world.dynamics.previous_actions(torch.cat([labels, latent_actions.to(world.device)], dim=1))
    frames = list(world.tokenizer.decode(tokens).unbind(dim=1))
    empty = torch.full((len(tokens), places), world.dynamics.hidden_token, device=world.device)
    seeds = range(seed, seed + len(tokens))
    for age in range(latent_actions.shape[1]):
        stop = tokens.shape[1] + 1
        start = 0 if window is None else max(0, stop - window)

        def predict(asked: Tensor, start: int = start, stop: int = stop, tokens: Tensor = tokens) -> Tensor:
            whole = torch.cat([tokens, asked[:, None]], dim=1)[:, start:]
            return world.dynamics.logits(world.dynamics(whole, lead[:, start:stop])[0][-1])

        uniforms = draw_uniforms(seeds, [age] * len(seeds), sampling, places).to(world.device)
        drawn = sample(predict, empty, world.dynamics.hidden_token, sampling, uniforms)
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
        frames.append(world.tokenizer.decode(tokens[:, start:])[:, -1])
    return torch.stack(frames, dim=1)
