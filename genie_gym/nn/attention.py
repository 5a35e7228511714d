"""Multi-head attention with QK-norm, over space, over time (causal, with a cache), or over both at once.

Features run time first, (T, B, N, D): then both the spatial (T B) and the temporal (B N) batch are views of
the same memory, and going from one attention to the other copies nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from genie_gym.nn.layers import LayerNorm, Linear
from genie_gym.serving import kernels


class KeyValues(NamedTuple):
    """Keys (T, B, N, heads, head_dim) and values (T, B, N, heads, value_dim) of frames."""

    keys: Tensor
    values: Tensor


Slot = int | Tensor
"""The slot of a frame: the same for all rows, or (R,) of each."""


class KVCache(NamedTuple):
    """Memory of past frames, in S slots of one frame."""

    keys: Tensor
    """(B, N, heads, S, head_dim)."""
    values: Tensor
    """(B, N, heads, S, value_dim)."""

    def write(self, rows: slice | Sequence[int] | Tensor, slot: Slot, keys: Tensor, values: Tensor) -> None:
        """Put (R, N, heads, head_dim) and (R, N, heads, value_dim) into R rows' slots."""
        self.keys[rows, :, :, slot] = keys
        self.values[rows, :, :, slot] = values


class Window(NamedTuple):
    """Where F new frames go and what they see."""

    slots: Sequence[Slot]
    """The slot of each new frame."""
    distance: Tensor
    """(B or 1, F, S) int64: how many frames before a new frame the one in a slot lies."""
    is_seen: Tensor
    """(B or 1, F, S) bool: whether it is real, not later, and in context."""


SHORT = 16
"""A GPU, too, attends to this many and fewer by plain products."""


def scaled_dot_products(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v over (batch, heads, S, d).

    PyTorch's fused kernel on a GPU, unless the keys are few. On a CPU three plain products: at a frame's few tokens the
    fused kernel takes twice as long, and its backward pass 2-3 times.
    """
    if queries.device.type != "cpu" and keys.shape[-2] > SHORT:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ values


class Attention(nn.Module):
    """What the three kinds share: projections, QK-norm, scaled dot products."""

    def __init__(self, width: int, heads: int, head_dim: int, value_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.value_dim = heads, head_dim, value_dim
        self.sizes = [heads * head_dim, heads * head_dim, heads * value_dim]
        self.project_in = Linear(width, sum(self.sizes), bias=False)
        self.project_out = Linear(heads * value_dim, width)
        self.query_norm = LayerNorm(head_dim)
        self.key_norm = LayerNorm(head_dim)

    def project(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) -> queries, keys, values, each (..., heads, features a head)."""
        return self.split(self.project_in(features))

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The second half of ``project``."""
        parts = projected.split(self.sizes, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)) for part in parts)
        return self.query_norm(queries), self.key_norm(keys), values


class SpatialAttention(Attention):
    """Every token of a frame sees every token of that frame."""

    def forward(self, features: Tensor) -> Tensor:
        """(T, B, N, D) -> (T, B, N, D)."""
        return self.project_out(self.attend(self.project_in(features)))

    def attend(self, projected: Tensor) -> Tensor:
        """(T, B, N, features of all queries, keys and values) -> (T, B, N, features of all values)."""
        if kernels.are_usable_for_heads(projected, self.head_dim, self.value_dim):
            return kernels.attend_in_space(projected, self.heads, self.query_norm, self.key_norm)
        heads = [rearrange(part, "t b n h d -> (t b) h n d") for part in self.split(projected)]
        mixed = scaled_dot_products(heads[0], heads[1], heads[2])
        return rearrange(mixed, "(t b) h n d -> t b n (h d)", t=projected.shape[0])


class CausalAttention(Attention):
    """Attention to this and earlier frames, with a learned bias for each head and distance in frames.

    The bias is the only position in time, so a frame's result depends on how far back the others lie and not
    on a clock: slots of past keys and values can be used round and round for ever.
    """

    is_per_place = False
    """Whether a token sees only those at its own place."""

    def __init__(self, width: int, heads: int, head_dim: int, value_dim: int, context_length: int) -> None:
        super().__init__(width, heads, head_dim, value_dim)
        self.context_length = context_length
        self.distance_bias = nn.Parameter(torch.zeros(heads, context_length))

    def forward(self, features: Tensor) -> tuple[Tensor, KeyValues]:
        """(T, B, N, D) frames that follow none -> (T, B, N, D), and their keys and values."""
        queries, keys, values = self.project(features)
        times = torch.arange(len(features), device=features.device)
        distance = times[:, None] - times
        is_seen = (distance >= 0) & (distance < self.context_length)
        bias = add_distance(self.distance_bias, distance[None], is_seen[None]).to(features.dtype)
        mixed = self.attend(queries, keys, values, bias)
        return self.project_out(mixed), KeyValues(keys, values)

    def step(self, features: Tensor, slots: KVCache, where: Sequence[Slot], bias: Tensor, outputs: int) -> Tensor:
        """``forward`` for F frames that follow others: writes them into ``slots`` and attends to all of these.

        Args:
            features: (F, B, N, D).
            slots: Of this block; changed in place.
            where: The frames' own slots.
            bias: (B or 1, heads, F, S), see ``add_distance``.
            outputs: How many of the last frames to return.

        Returns:
            (outputs, B, N, D).
        """
        return self.project_out(self.remember_and_attend(self.project_in(features), slots, where, bias, outputs))

    def remember_and_attend(
        self, projected: Tensor, slots: KVCache, where: Sequence[Slot], bias: Tensor, outputs: int
    ) -> Tensor:
        """``step`` between its projections."""
        queries, keys, values = self.split(projected)
        for slot, frame_keys, frame_values in zip(where, keys, values, strict=True):
            rows = slice(None) if isinstance(slot, int) else torch.arange(len(slot), device=projected.device)
            slots.write(rows, slot, frame_keys, frame_values)
        return self.attend_cached(queries[-outputs:], slots, bias[:, :, -outputs:])

    def empty_cache(self, batch: int, places: int, slots: int, dtype: torch.dtype) -> KVCache:
        """KVCache with nothing in them."""
        shapes = [(batch, places, self.heads, slots, dim) for dim in (self.head_dim, self.value_dim)]
        return KVCache(*(torch.zeros(shape, dtype=dtype, device=self.distance_bias.device) for shape in shapes))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """(Tq, B, N, h, d), (T, B, N, h, d) twice, bias (B or 1, h, Tq, T) -> (Tq, B, N, (h d))."""
        raise NotImplementedError

    def attend_cached(self, queries: Tensor, slots: KVCache, bias: Tensor) -> Tensor:
        """(F, B, N, h, d), slots, bias (B or 1, h, F, S) -> (F, B, N, (h d))."""
        keys, values = (rearrange(part, "b n h s d -> s b n h d") for part in slots)
        return self.attend(queries, keys, values, bias)


def stack_indices(where: Sequence[Slot], batch: int) -> Tensor:
    """The slots of F frames as (F, B) int64."""
    return torch.stack([torch.as_tensor(slot).expand(batch) for slot in where])


def add_distance(distance_bias: Tensor, distance: Tensor, is_seen: Tensor) -> Tensor:
    """(..., heads, context) by distance, (B or 1, F, S) twice -> (..., B or 1, heads, F, S), -inf where unseen."""
    bias = distance_bias[..., distance.clamp(0, distance_bias.shape[-1] - 1)]
    return bias.where(is_seen, float("-inf")).transpose(-4, -3)


class TemporalAttention(CausalAttention):
    """Every token sees the tokens at its own place in this and earlier frames."""

    is_per_place = True

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        batch, places = queries.shape[1:3]
        heads = [rearrange(part, "t b n h d -> (b n) h t d") for part in (queries, keys, values)]
        if len(bias) > 1:
            bias = bias.repeat_interleave(places, dim=0)
        mixed = scaled_dot_products(heads[0], heads[1], heads[2], bias)
        return rearrange(mixed, "(b n) h t d -> t b n (h d)", b=batch)

    def remember_and_attend(
        self, projected: Tensor, slots: KVCache, where: Sequence[Slot], bias: Tensor, outputs: int
    ) -> Tensor:
        if not kernels.are_usable_for_heads(projected, self.head_dim, self.value_dim):
            return super().remember_and_attend(projected, slots, where, bias, outputs)
        norms = self.query_norm, self.key_norm
        return kernels.attend_in_time(projected, slots, stack_indices(where, projected.shape[1]), bias, norms, outputs)

    def attend_cached(self, queries: Tensor, slots: KVCache, bias: Tensor) -> Tensor:
        queries = rearrange(queries, "f b n h d -> b n h f d") * queries.shape[-1] ** -0.5
        shares = (queries @ slots.keys.mT + bias[:, None]).softmax(dim=-1)
        return rearrange(shares @ slots.values, "b n h f d -> f b n (h d)")


class FullAttention(CausalAttention):
    """Every token sees all tokens of this and earlier frames (C-ViViT)."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        frames, places = len(queries), queries.shape[2]
        heads = [rearrange(part, "t b n h d -> b h (t n) d") for part in (queries, keys, values)]
        bias = bias.repeat_interleave(places, dim=-1).repeat_interleave(places, dim=-2)
        mixed = scaled_dot_products(heads[0], heads[1], heads[2], bias)
        return rearrange(mixed, "b h (t n) d -> t b n (h d)", t=frames)
