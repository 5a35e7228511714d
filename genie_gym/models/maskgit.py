"""MaskGIT decoding as pure functions (arXiv 2202.04200; Genie, sec. 2.2).

A ``predict`` function maps tokens (B, N), where hidden ones are marked by ``hidden_token``, to logits (B, N, K). All
randomness comes in as uniform numbers, so each row's result depends on that row alone.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from genie_gym.configs import SamplingConfig

_CHUNK_LOGITS = 2**17
"""Number of logits that a CPU draws from at once, so that intermediate results stay in its cache."""

Predict = Callable[[Tensor], Tensor]
"""A function of tokens (B, N) that returns logits (B, N, K)."""
Draw = Callable[[Tensor, float, Tensor], tuple[Tensor, Tensor]]
"""A function like ``draw``; ``genie_gym.serving`` has a compiled one."""


def draw_uniforms(seeds: Sequence[int], ages: Sequence[int], sampling: SamplingConfig, positions: int) -> Tensor:
    """Draw a frame's random numbers (B, maskgit_steps, 2, positions) in [0, 1) from each row's seed and age."""
    shape = (sampling.maskgit_steps, 2, positions)
    rows = [
        np.random.default_rng([seed, age]).random(shape, dtype=np.float32)
        for seed, age in zip(seeds, ages, strict=True)
    ]
    return torch.from_numpy(np.stack(rows))


def hidden_after(step: int, config: SamplingConfig, tokens_per_frame: int) -> int:
    """Return the number of tokens that are still hidden after MaskGIT step ``step`` (from 0); 0 after the last."""
    progress = (step + 1) / config.maskgit_steps
    share = math.cos(math.pi / 2 * progress) if config.schedule == "cosine" else 1 - progress
    if step + 1 == config.maskgit_steps:
        return 0
    return min(max(int(share * tokens_per_frame), 0), tokens_per_frame - 1)


def draw(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Sample from softmax(logits / temperature) by inverting its distribution function.

    Args:
        logits: (B, ..., K).
        temperature: Positive number; 1 samples from the model's own distribution.
        uniforms: (B, ...) in [0, 1).

    Returns:
        Tokens (B, ...) int64, and their log-probabilities (B, ...).
    """
    rows = len(logits) if logits.device.type != "cpu" else max(1, _CHUNK_LOGITS // math.prod(logits.shape[1:]))
    parts = zip(logits.split(rows), uniforms.split(rows), strict=True)
    tokens, log_probabilities = zip(*(_draw_rows(each, temperature, numbers) for each, numbers in parts), strict=True)
    return torch.cat(tokens), torch.cat(log_probabilities)


def _draw_rows(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    thresholds = uniforms[..., None] * cumulative[..., -1:]  # the last sum is 1 up to rounding
    tokens = torch.searchsorted(cumulative, thresholds, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[..., 0], probabilities.gather(-1, tokens)[..., 0].clamp(min=1e-30).log()


def sample(
    predict: Predict,
    tokens: Tensor,
    hidden_token: int,
    config: SamplingConfig,
    uniforms: Tensor,
    draw: Draw = draw,
) -> Tensor:
    """Fill in every hidden token; visible ones are never rewritten.

    Args:
        predict: Function of tokens (B, N) that returns logits (B, N, K).
        tokens: (B, N) int64, with ``hidden_token`` at the positions to fill.
        hidden_token: Id that marks a hidden token.
        config: Number of steps, temperature, schedule and order.
        uniforms: (B, maskgit_steps, 2, N) in [0, 1): per step and token, one for the draw and one for the order.
        draw: Function that samples tokens from logits.

    Returns:
        (B, N) int64 without hidden tokens.

    Raises:
        FloatingPointError: On a CPU, if logits are NaN or infinite. On a GPU the check would wait for all queued work.
    """
    hidden_at_first = (tokens == hidden_token).sum(dim=-1, keepdim=True)  # (B, 1)
    for step in range(config.maskgit_steps):
        is_hidden = tokens == hidden_token
        logits = predict(tokens)
        drawn, log_probabilities = draw(logits, config.temperature, uniforms[:, step, 0])
        if logits.device.type == "cpu" and log_probabilities.isnan().any():
            raise FloatingPointError(
                f"logits must be finite, got others in {logits.dtype}: load the checkpoint anew with "
                "precision='float32', and train the world anew if that fails too"
            )
        score = _keep_score(log_probabilities, uniforms[:, step, 1], config, step)
        score = score.masked_fill(~is_hidden, float("inf"))
        still_hidden = hidden_at_first * hidden_after(step, config, tokens.shape[-1]) // tokens.shape[-1]  # (B, 1)
        rank = score.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)  # 0 for the lowest score
        tokens = torch.where(is_hidden & (rank >= still_hidden), drawn, tokens)
    return tokens


def _keep_score(log_probabilities: Tensor, uniforms: Tensor, config: SamplingConfig, step: int) -> Tensor:
    """Score tokens (B, N), higher is kept earlier: confidence plus fading Gumbel noise, or random numbers alone."""
    if config.order == "random":
        return uniforms
    gumbel = -torch.log(-torch.log(uniforms.clamp(1e-6, 1 - 1e-6)))
    fading = config.choice_temperature * (1 - (step + 1) / config.maskgit_steps)
    return log_probabilities + fading * gumbel
