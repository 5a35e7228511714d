"""Multi-head attention with QK-norm: over space, over time (causal, with a KV cache), or over both at once.

Notable choices:
- Features run time first, (T, B, N, D). Both the spatial batch (T B) and the temporal batch (B N) are then views of
  one memory, and alternating between the two kinds of attention copies nothing.
- Time has no position embedding, only a learned bias per head and distance in frames. Results depend on how far back a
  frame lies and not on its absolute time, so the KV cache can be a ring that is overwritten for ever.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from genie_gym.nn.layers import LayerNorm, Linear


class KeyValues(NamedTuple):
    """Keys (T, B, N, heads, head_dim) and values (T, B, N, heads, value_dim) of T frames."""

    keys: Tensor
    values: Tensor


CacheIndex = int | Tensor
"""Index of a frame in a KV cache: one for all rows, or (R,) one per row."""


class KVCache(NamedTuple):
    """Keys and values of past frames of one block, S frames long."""

    keys: Tensor
    """keys (B, N, heads, S, head_dim)"""
    values: Tensor
    """values (B, N, heads, S, value_dim)"""

    def write(self, rows: slice | Sequence[int] | Tensor, index: CacheIndex, keys: Tensor, values: Tensor) -> None:
        """Write (R, N, heads, head_dim) keys and (R, N, heads, value_dim) values of one frame of R rows."""
        self.keys[rows, :, :, index] = keys
        self.values[rows, :, :, index] = values


class CacheWindow(NamedTuple):
    """The place of F new frames in a KV cache, and the cached frames that each of them attends to."""

    indices: Sequence[CacheIndex]
    """Cache index of each new frame."""
    distance: Tensor
    """(B or 1, F, S) int64: number of frames from a cached frame forward to the new one; 0 for the new one itself."""
    is_visible: Tensor
    """(B or 1, F, S) bool: whether the cached frame exists, is not later, and is within the context."""


FEW_KEYS = 16
"""Number of keys up to which plain matrix products are faster than the fused kernel on a GPU."""


def scaled_dot_products(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute softmax(q k / sqrt(d) + bias) v: (batch, heads, F, d), (..., S, d), (..., S, e) -> (..., F, e).

    On a GPU this is PyTorch's fused kernel unless there are few keys. On a CPU it is three plain products: with a few
    dozen tokens the fused kernel takes twice as long, and its backward pass 2 to 3 times.
    """
    if queries.device.type != "cpu" and keys.shape[-2] > FEW_KEYS:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    return multiply_out(queries, keys, values, bias)


def multiply_out(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do what ``scaled_dot_products`` does by three plain products."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ values


class Attention(nn.Module):
    """The part that all kinds of attention share: projections and QK-norm."""

    def __init__(self, width: int, heads: int, head_dim: int, value_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.value_dim = heads, head_dim, value_dim
        self.sizes = [heads * head_dim, heads * head_dim, heads * value_dim]
        self.project_in = Linear(width, sum(self.sizes), bias=False)
        self.project_out = Linear(heads * value_dim, width)
        self.query_norm = LayerNorm(head_dim)
        self.key_norm = LayerNorm(head_dim)

    def split_heads(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split ``project_in``'s output (..., sum of sizes) into normalised queries and keys, and values.

        Returns:
            (..., heads, head_dim) twice and (..., heads, value_dim).
        """
        parts = projected.split(self.sizes, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)) for part in parts)
        return self.query_norm(queries), self.key_norm(keys), values


class SpatialAttention(Attention):
    """Attention of every token to all tokens of its own frame."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (T, B, N, D) to (T, B, N, D)."""
        return self.project_out(self.attend(self.project_in(features)))

    def attend(self, projected: Tensor) -> Tensor:
        """Mix the values of projected tokens (T, B, N, sum of sizes) into (T, B, N, heads * value_dim)."""
        frames = projected.shape[0]
        # (T, B, N, h, d) -> (T B, h, N, d): every frame of every row attends by itself
        queries, keys, values = (rearrange(x, "t b n h d -> (t b) h n d") for x in self.split_heads(projected))
        mixed = scaled_dot_products(queries, keys, values)
        return rearrange(mixed, "(t b) h n d -> t b n (h d)", t=frames)


class CausalAttention(Attention):
    """Attention to this and earlier frames, with a learned bias for each head and distance in frames."""

    def __init__(self, width: int, heads: int, head_dim: int, value_dim: int, context_length: int) -> None:
        super().__init__(width, heads, head_dim, value_dim)
        self.context_length = context_length
        self.distance_bias = nn.Parameter(torch.zeros(heads, context_length))

    def forward(self, features: Tensor) -> tuple[Tensor, KeyValues]:
        """Attend within whole videos that follow no other frames.

        Args:
            features: (T, B, N, D).

        Returns:
            (T, B, N, D), and the frames' keys and values.
        """
        queries, keys, values = self.split_heads(self.project_in(features))  # (T, B, N, h, d)
        times = torch.arange(len(features), device=features.device)
        distance = times[:, None] - times  # (T, T)
        is_visible = (distance >= 0) & (distance < self.context_length)
        bias = gather_bias(self.distance_bias, distance[None], is_visible[None]).to(features.dtype)  # (1, h, T, T)
        mixed = self.attend(queries, keys, values, bias)
        return self.project_out(mixed), KeyValues(keys, values)

    def step(
        self, features: Tensor, cache: KVCache, indices: Sequence[CacheIndex], bias: Tensor, outputs: int
    ) -> Tensor:
        """Write F new frames into the KV cache and attend to the whole cache.

        Args:
            features: (F, B, N, D).
            cache: Past frames of this block; changed in place.
            indices: Cache index of each new frame.
            bias: (B or 1, heads, F, S), see ``gather_bias``.
            outputs: Number of frames to return, the last of the F.

        Returns:
            (outputs, B, N, D).
        """
        return self.project_out(self.write_and_attend(self.project_in(features), cache, indices, bias, outputs))

    def write_and_attend(
        self, projected: Tensor, cache: KVCache, indices: Sequence[CacheIndex], bias: Tensor, outputs: int
    ) -> Tensor:
        """Compute the part of ``step`` between its two projections: (F, B, N, sum of sizes) -> (outputs, B, N, h d)."""
        queries, keys, values = self.split_heads(projected)
        for index, frame_keys, frame_values in zip(indices, keys, values, strict=True):
            rows = slice(None) if isinstance(index, int) else torch.arange(len(index), device=projected.device)
            cache.write(rows, index, frame_keys, frame_values)
        return self.attend_cached(queries[-outputs:], cache, bias[:, :, -outputs:])

    def empty_cache(self, batch: int, positions: int, frames: int, dtype: torch.dtype) -> KVCache:
        """Allocate a KV cache for ``batch`` rows of ``frames`` frames with ``positions`` tokens each."""
        shapes = [(batch, positions, self.heads, frames, dim) for dim in (self.head_dim, self.value_dim)]
        return KVCache(*(torch.zeros(shape, dtype=dtype, device=self.distance_bias.device) for shape in shapes))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Mix values: (F, B, N, h, d), (T, B, N, h, d) twice, bias (B or 1, h, F, T) -> (F, B, N, h d)."""
        raise NotImplementedError

    def attend_cached(self, queries: Tensor, cache: KVCache, bias: Tensor) -> Tensor:
        """Mix cached values: (F, B, N, h, d), cache, bias (B or 1, h, F, S) -> (F, B, N, h d)."""
        keys, values = (rearrange(part, "b n h s d -> s b n h d") for part in cache)
        return self.attend(queries, keys, values, bias)


def gather_bias(distance_bias: Tensor, distance: Tensor, is_visible: Tensor) -> Tensor:
    """Look up the bias of each pair of frames, minus infinity where the pair may not attend.

    Args:
        distance_bias: (..., heads, context_length).
        distance: (B or 1, F, S) int64.
        is_visible: (B or 1, F, S) bool.

    Returns:
        (..., B or 1, heads, F, S).
    """
    bias = distance_bias[..., distance.clamp(0, distance_bias.shape[-1] - 1)]
    return bias.where(is_visible, float("-inf")).transpose(-4, -3)


class TemporalAttention(CausalAttention):
    """Attention of every token to the tokens at its own position in this and earlier frames."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        batch, positions = queries.shape[1:3]
        # (T, B, N, h, d) -> (B N, h, T, d): every position of every row attends by itself
        queries, keys, values = (rearrange(x, "t b n h d -> (b n) h t d") for x in (queries, keys, values))
        if len(bias) > 1:
            bias = bias.repeat_interleave(positions, dim=0)  # (B, h, F, T) -> (B N, h, F, T)
        mixed = scaled_dot_products(queries, keys, values, bias)
        return rearrange(mixed, "(b n) h t d -> t b n (h d)", b=batch)

    def attend_cached(self, queries: Tensor, cache: KVCache, bias: Tensor) -> Tensor:
        queries = rearrange(queries, "f b n h d -> b n h f d") * queries.shape[-1] ** -0.5
        weights = (queries @ cache.keys.mT + bias[:, None]).softmax(dim=-1)  # (B, N, h, F, S)
        return rearrange(weights @ cache.values, "b n h f d -> f b n (h d)")


class FullAttention(CausalAttention):
    """Attention of every token to all tokens of this and earlier frames (C-ViViT)."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        frames, positions = len(queries), queries.shape[2]
        # (T, B, N, h, d) -> (B, h, T N, d): all tokens of a row attend together
        queries, keys, values = (rearrange(x, "t b n h d -> b h (t n) d") for x in (queries, keys, values))
        bias = bias.repeat_interleave(positions, dim=-1).repeat_interleave(positions, dim=-2)
        mixed = scaled_dot_products(queries, keys, values, bias)
        return rearrange(mixed, "b h (t n) d -> t b n (h d)", t=frames)
