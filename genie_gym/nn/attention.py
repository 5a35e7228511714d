"""Multi-head attention with QK-norm, over space, over time (causal, with a cache), or over both at once.

Features run time first, (T, B, N, D): then both the spatial (T B) and the temporal (B N) batch are views of
the same memory, and going from one attention to the other copies nothing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from genie_gym.nn.layers import LayerNorm, Linear


class KeyValues(NamedTuple):
    """Keys (T, B, N, heads, head_dim) and values (T, B, N, heads, value_dim) of past frames."""

    keys: Tensor
    values: Tensor


def scaled_dot_products(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v over (batch, heads, S, d).

    PyTorch's fused kernel, except where gradients are wanted on a CPU: at a frame's few tokens its backward
    pass takes 2-3 times as long as these three plain products.
    """
    if queries.device.type != "cpu" or not (torch.is_grad_enabled() and queries.requires_grad):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ values


class Attention(nn.Module):
    """What the three kinds share: projections, QK-norm, scaled dot products."""

    def __init__(self, width: int, heads: int, head_dim: int, value_dim: int) -> None:
        super().__init__()
        self.heads, self.sizes = heads, [heads * head_dim, heads * head_dim, heads * value_dim]
        self.project_in = Linear(width, sum(self.sizes), bias=False)
        self.project_out = Linear(heads * value_dim, width)
        self.query_norm = LayerNorm(head_dim)
        self.key_norm = LayerNorm(head_dim)

    def project(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) -> queries, keys, values, each (..., heads, features a head)."""
        parts = self.project_in(features).split(self.sizes, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)) for part in parts)
        return self.query_norm(queries), self.key_norm(keys), values


class SpatialAttention(Attention):
    """Every token of a frame sees every token of that frame."""

    def forward(self, features: Tensor) -> Tensor:
        """(T, B, N, D) -> (T, B, N, D)."""
        heads = [rearrange(part, "t b n h d -> (t b) h n d") for part in self.project(features)]
        mixed = scaled_dot_products(heads[0], heads[1], heads[2])
        return self.project_out(rearrange(mixed, "(t b) h n d -> t b n (h d)", t=features.shape[0]))


class CausalAttention(Attention):
    """Attention to this and earlier frames, with a learned bias for each head and distance in frames.

    The bias is the only position in time, so a frame's result depends on how far back the others lie and not
    on a clock: a cache of past keys and values can roll for ever.
    """

    def __init__(self, width: int, heads: int, head_dim: int, value_dim: int, context_length: int) -> None:
        super().__init__(width, heads, head_dim, value_dim)
        self.context_length = context_length
        self.distance_bias = nn.Parameter(torch.zeros(heads, context_length))

    def bias(self, query_frames: int, key_frames: int, dtype: torch.dtype) -> Tensor:
        """(heads, query_frames, key_frames): minus infinity for later frames and those out of context."""
        device = self.distance_bias.device
        last = torch.arange(key_frames - query_frames, key_frames, device=device)
        distance = last[:, None] - torch.arange(key_frames, device=device)
        seen = (distance >= 0) & (distance < self.context_length)
        bias = self.distance_bias[:, distance.clamp(0, self.context_length - 1)]
        return bias.masked_fill(~seen, float("-inf")).to(dtype)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """(Tq, B, N, h, d), (T, B, N, h, d) twice, bias (B or 1, h, Tq, T) -> (Tq, B, N, (h d))."""
        raise NotImplementedError

    def forward(
        self, features: Tensor, past: KeyValues | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, KeyValues]:
        """Attend to ``past`` and to the frames given.

        Args:
            features: (T, B, N, D).
            past: Keys and values of earlier frames, oldest first.
            lengths: (B,) int64, how many of the latest past frames are real for each row; ``None`` for all.

        Returns:
            (T, B, N, D), and the keys and values of past and new frames together.
        """
        queries, keys, values = self.project(features)
        if past is not None:
            keys, values = torch.cat([past.keys, keys]), torch.cat([past.values, values])
        bias = self.bias(len(queries), len(keys), features.dtype)[None]
        if past is not None and lengths is not None:
            bias = bias.masked_fill(~_is_real(lengths, len(past.keys), len(keys))[:, None, None], float("-inf"))
        return self.project_out(self.attend(queries, keys, values, bias)), KeyValues(keys, values)


def _is_real(lengths: Tensor, past_frames: int, frames: int) -> Tensor:
    """(B,) -> (B, frames): False for past frames older than a row's length."""
    return torch.arange(frames, device=lengths.device) >= (past_frames - lengths)[:, None]


class TemporalAttention(CausalAttention):
    """Every token sees the tokens at its own place in this and earlier frames."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        batch, places = queries.shape[1:3]
        heads = [rearrange(part, "t b n h d -> (b n) h t d") for part in (queries, keys, values)]
        if len(bias) > 1:
            bias = bias.repeat_interleave(places, dim=0)
        mixed = scaled_dot_products(heads[0], heads[1], heads[2], bias)
        return rearrange(mixed, "(b n) h t d -> t b n (h d)", b=batch)


class FullAttention(CausalAttention):
    """Every token sees all tokens of this and earlier frames (C-ViViT)."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        frames, places = len(queries), queries.shape[2]
        heads = [rearrange(part, "t b n h d -> b h (t n) d") for part in (queries, keys, values)]
        bias = bias.repeat_interleave(places, dim=-1).repeat_interleave(places, dim=-2)
        mixed = scaled_dot_products(heads[0], heads[1], heads[2], bias)
        return rearrange(mixed, "b h (t n) d -> t b n (h d)", t=frames)
