"""The paper's ST-transformer (Genie, sec. 2.1) and its two baselines, ViT and C-ViViT, behind one interface.

Notable choices:
- Pre-norm blocks: attention in space, causal attention in time, then ONE feed-forward after both.
- QK-norm in every attention; no position embedding in time (see ``attention``).
- An optional condition per frame scales and shifts the input of every feed-forward (FiLM).
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genie_gym.configs import TransformerConfig
from genie_gym.nn.attention import (
    CacheIndex,
    CacheWindow,
    CausalAttention,
    FullAttention,
    KeyValues,
    KVCache,
    SpatialAttention,
    TemporalAttention,
    gather_bias,
)
from genie_gym.nn.layers import GridConvolution, LayerNorm, Linear


class FeedForward(nn.Module):
    """Linear, GELU, linear; with a grid of tokens the first layer is a 3 x 3 convolution."""

    def __init__(self, width: int, hidden: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.expand = Linear(width, hidden) if grid is None else GridConvolution(width, hidden, grid)
        self.contract = Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(features), approximate="tanh"))


class Block(nn.Module):
    """A residual block: attention in space, causal attention in time, then one feed-forward after both."""

    is_checkpointed = False
    """Whether the backward pass computes the block again from its input, which alone is kept."""

    def __init__(
        self,
        config: TransformerConfig,
        context_length: int,
        condition_width: int | None,
        grid: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        width, sizes = config.width, (config.width, config.heads, config.head_dim, config.value_head_dim)
        self.spatial_norm: LayerNorm | None = None
        self.spatial: SpatialAttention | None = None
        self.causal_norm: LayerNorm | None = None
        self.causal: CausalAttention | None = None
        self.modulate: Linear | None = None
        if config.attention in ("st", "spatial"):
            self.spatial_norm, self.spatial = LayerNorm(width), SpatialAttention(*sizes)
        if config.attention in ("st", "full"):
            kind: type[CausalAttention] = TemporalAttention if config.attention == "st" else FullAttention
            self.causal_norm, self.causal = LayerNorm(width), kind(*sizes, context_length)
        if condition_width is not None:
            self.modulate = Linear(condition_width, 2 * width)
        self.feed_forward_norm = LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward_width, grid if config.attention == "conv" else None)

    def forward(self, features: Tensor, condition: Tensor | None) -> tuple[Tensor, KeyValues | None]:
        """Transform whole videos (T, B, N, D), and also return the causal attention's keys and values, if any.

        A checkpointed block returns none while it records gradients: they would be kept too.
        """
        if self.is_checkpointed and torch.is_grad_enabled():
            kept = checkpoint(self._transform, features, condition, use_reentrant=False, preserve_rng_state=False)
            return cast(Tensor, kept[0]), None
        return self._transform(features, condition)

    def _transform(self, features: Tensor, condition: Tensor | None) -> tuple[Tensor, KeyValues | None]:
        keys_values = None
        features = self.mix_space(features)
        if self.causal is not None and self.causal_norm is not None:
            mixed, keys_values = self.causal(self.causal_norm(features))
            features = features + mixed
        return self.feed(features, condition), keys_values

    def step(
        self,
        features: Tensor,
        condition: Tensor | None,
        cache: KVCache | None,
        indices: Sequence[CacheIndex],
        bias: Tensor,
        outputs: int,
    ) -> Tensor:
        """Transform F frames that follow those in the KV cache; arguments as for ``CausalAttention.step`` and ``feed``.

        Returns:
            (outputs, B, N, D): the last ``outputs`` frames.
        """
        features = self.mix_space(features)
        if self.causal is not None and self.causal_norm is not None:
            assert cache is not None
            mixed = self.causal.step(self.causal_norm(features), cache, indices, bias, outputs)
            features = features[-len(mixed) :] + mixed
        return self.feed(features, None if condition is None else condition[-len(features) :])

    def mix_space(self, features: Tensor) -> Tensor:
        """Apply the spatial attention, if the block has one."""
        if self.spatial is None or self.spatial_norm is None:
            return features
        return features + self.spatial(self.spatial_norm(features))

    def feed(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """Apply the feed-forward to (F, B, N, D), scaled and shifted by a condition (F, B, 1, condition_width)."""
        normed = self.feed_forward_norm(features)
        if self.modulate is not None and condition is not None:
            scale, shift = self.modulate(condition).chunk(2, dim=-1)  # (F, B, 1, D) each
            normed = normed * (1 + scale) + shift
        return features + self.feed_forward(normed)


class SpatioTemporalTransformer(nn.Module):
    """A stack of blocks over (T, B, N, D) features, time first; frame t never sees frame t + 1.

    Args:
        config: Sizes and kind of attention.
        context_length: Number of frames that a causal attention sees, its own included.
        condition_width: Features of a per-frame condition that scales and shifts every block (FiLM).
        grid: Rows and columns of a frame's tokens, for convolutions.

    Raises:
        ValueError: If the config asks for convolutions and there is no grid.
    """

    def __init__(
        self,
        config: TransformerConfig,
        context_length: int,
        condition_width: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if config.attention == "conv" and grid is None:
            raise ValueError("grid must be given for convolutions, got None")
        self.context_length = context_length
        blocks = (Block(config, context_length, condition_width, grid) for _ in range(config.layers))
        self.blocks = nn.ModuleList(blocks)
        self.norm = LayerNorm(config.width)
        self.apply(_initialise)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> tuple[Tensor, list[KeyValues | None]]:
        """Transform whole videos.

        Args:
            features: (T, B, N, D). Each frame attends to at most ``context_length`` frames, however large T is.
            condition: (T, B, 1, condition_width).

        Returns:
            (T, B, N, D) after the last norm, and the keys and values of each block.
        """
        all_keys_values: list[KeyValues | None] = []
        for block in self.blocks:
            features, keys_values = block(features, condition)
            all_keys_values.append(keys_values)
        return self.norm(features), all_keys_values

    def step(
        self, features: Tensor, caches: Sequence[KVCache | None], window: CacheWindow, condition: Tensor | None = None
    ) -> Tensor:
        """Transform F frames that follow cached ones and return the last; equals ``forward`` over all frames.

        Args:
            features: (F, B, N, D).
            caches: One KV cache per block, changed in place.
            window: Cache indices of the new frames, and the cached frames that each of them attends to.
            condition: (F, B, 1, condition_width).

        Returns:
            (1, B, N, D) after the last norm.
        """
        biases = self.gather_biases(window, features)
        for number, (block, cache, bias) in enumerate(zip(self.blocks, caches, biases, strict=True)):
            # the last block has to cache the earlier of the F frames but not to transform them
            outputs = 1 if number + 1 == len(self.blocks) else len(features)
            features = cast(Block, block).step(features, condition, cache, window.indices, bias, outputs)
        return self.norm(features[-1:])

    def gather_biases(self, window: CacheWindow, features: Tensor) -> Tensor:
        """Look up the attention bias of each block: (blocks, B or 1, heads, F, S)."""
        attentions = [cast(Block, block).causal for block in self.blocks]
        no_bias = features.new_zeros(1, 1)
        by_distance = torch.stack([no_bias if each is None else each.distance_bias for each in attentions])
        return gather_bias(by_distance, window.distance, window.is_visible).to(features.dtype).contiguous()

    def empty_caches(self, batch: int, positions: int, frames: int, dtype: torch.dtype) -> list[KVCache | None]:
        """Allocate one KV cache per block for ``step``; None where a block has no causal attention."""
        attentions = [cast(Block, block).causal for block in self.blocks]
        return [None if each is None else each.empty_cache(batch, positions, frames, dtype) for each in attentions]


def _initialise(module: nn.Module) -> None:
    """Initialise linear layers for unit variance, and the last layer of each residual branch small."""
    if isinstance(module, Linear | GridConvolution):
        nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5, a=-3.0, b=3.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Block):
        branches = [module.feed_forward.contract]
        branches += [branch.project_out for branch in (module.spatial, module.causal) if branch is not None]
        for last in branches:
            nn.init.normal_(last.weight, std=0.02)
