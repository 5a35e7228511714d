"""Playing a world without a KV cache: the slow reference against which the cache is tested and timed."""

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
    labels = world.label(prompts) if prompts.shape[1] > 1 else tokens[:, :0, 0]
    actions = world.dynamics.previous_actions(torch.cat([labels, latent_actions.to(world.device)], dim=1))
    frames = list(world.tokenizer.decode(tokens).unbind(dim=1))
    empty = torch.full((len(tokens), positions), world.dynamics.hidden_token, device=world.device)
    seeds = range(seed, seed + len(tokens))
    for age in range(latent_actions.shape[1]):
        stop = tokens.shape[1] + 1
        start = 0 if window is None else max(0, stop - window)

        def predict(draft: Tensor, start: int = start, stop: int = stop, tokens: Tensor = tokens) -> Tensor:
            frames_seen = torch.cat([tokens, draft[:, None]], dim=1)[:, start:]
            return world.dynamics.logits(world.dynamics(frames_seen, actions[:, start:stop])[0][-1])

        uniforms = draw_uniforms(seeds, [age] * len(seeds), sampling, positions).to(world.device)
        drawn = sample(predict, empty, world.dynamics.hidden_token, sampling, uniforms, world.draw_tokens)
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
        frames.append(world.tokenizer.decode(tokens[:, start:])[:, -1])
    return torch.stack(frames, dim=1)
