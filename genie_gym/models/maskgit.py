"""MaskGIT decoding as pure functions (arXiv 2202.04200; Genie, sec. 2.2).

A ``predict`` function maps tokens (B, N), hidden ones marked by ``hidden_token``, to logits (B, N, K). All
randomness comes in as uniform numbers, so that a row's result depends on nothing but that row.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genie_gym.configs import SamplingConfig
from genie_gym.serving import kernels

CHUNK = 2**17
"""Logits that a CPU draws from at once."""

Predict = Callable[[Tensor], Tensor]


def hidden_after(step: int, config: SamplingConfig, tokens_per_frame: int) -> int:
    """How many tokens are still hidden after pass ``step`` (0-based); 0 after the last."""
    progress = (step + 1) / config.maskgit_steps
    share = math.cos(math.pi / 2 * progress) if config.schedule == "cosine" else 1 - progress
    if step + 1 == config.maskgit_steps:
        return 0
    return min(max(int(share * tokens_per_frame), 0), tokens_per_frame - 1)


def draw(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Sample from softmax(logits / temperature) by inverting its distribution function.

    Args:
        logits: (..., K).
        temperature: Above 0.
        uniforms: (...) in [0, 1).

    Returns:
        Tokens (...) int64, and their log-probabilities (...).
    """
    shares = torch.softmax(logits.float() / temperature, dim=-1)
    sums = shares.cumsum(dim=-1)
    wanted = uniforms[..., None] * sums[..., -1:]
    tokens = torch.searchsorted(sums, wanted, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[..., 0], shares.gather(-1, tokens)[..., 0].clamp(min=1e-30).log()


def _draw_anywhere(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """``draw``, on a CPU by kernels or in chunks, and not from nothing.

    Raises:
        FloatingPointError: On a CPU, if there are logits that are no numbers.
    """
    if logits.device.type != "cpu":
        return draw(logits, temperature, uniforms)
    by_kernels = kernels.are_usable(logits)
    tokens, log_shares = (kernels.draw if by_kernels else _draw_in_chunks)(logits, temperature, uniforms)
    if log_shares.isnan().any():
        raise FloatingPointError(
            f"logits must be finite, got others in {logits.dtype}: play in a precision of a larger range, or train anew"
        )
    return tokens, log_shares


def _draw_in_chunks(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """``draw``, a few rows at a time, so that what it makes of them stays in the cache."""
    rows = max(1, CHUNK // logits[0].numel())
    parts = zip(logits.split(rows), uniforms.split(rows), strict=True)
    drawn = [draw(each, temperature, numbers) for each, numbers in parts]
    return torch.cat([tokens for tokens, _ in drawn]), torch.cat([shares for _, shares in drawn])


def sample(predict: Predict, tokens: Tensor, hidden_token: int, config: SamplingConfig, uniforms: Tensor) -> Tensor:
    """Fill every hidden token; those given are never rewritten.

    Args:
        predict: Tokens (B, N) to logits (B, N, K).
        tokens: (B, N) int64; ``hidden_token`` where one is wanted.
        hidden_token: The id that stands for "hidden".
        config: Passes, temperature, schedule and order.
        uniforms: (B, maskgit_steps, 2, N) in [0, 1): for the tokens, and for their order.

    Returns:
        (B, N) int64 with nothing hidden.
    """
    wanted = (tokens == hidden_token).sum(dim=-1, keepdim=True)
    for step in range(config.maskgit_steps):
        is_hidden = tokens == hidden_token
        drawn, log_shares = _draw_anywhere(predict(tokens), config.temperature, uniforms[:, step, 0])
        score = _keep_score(log_shares, uniforms[:, step, 1], config, step).masked_fill(~is_hidden, float("inf"))
        left = wanted * hidden_after(step, config, tokens.shape[-1]) // tokens.shape[-1]
        rank = score.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
        tokens = torch.where(is_hidden & (rank >= left), drawn, tokens)
    return tokens


def _keep_score(log_shares: Tensor, uniforms: Tensor, config: SamplingConfig, step: int) -> Tensor:
    """(B, N), higher is kept earlier: confidence with fading Gumbel noise, or chance alone."""
    if config.order == "random":
        return uniforms
    gumbel = -torch.log(-torch.log(uniforms.clamp(1e-6, 1 - 1e-6)))
    fading = config.choice_temperature * (1 - (step + 1) / config.maskgit_steps)
    return log_shares + fading * gumbel
