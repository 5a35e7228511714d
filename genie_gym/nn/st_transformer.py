"""The paper's ST-transformer (sec. 2.1) and its two rivals, behind one interface."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import TransformerConfig
from genie_gym.nn.attention import CausalAttention, FullAttention, KeyValues, SpatialAttention, TemporalAttention
from genie_gym.nn.layers import LayerNorm, Linear


class Past(NamedTuple):
    """What a transformer remembers of earlier frames: one entry a block, and (B,) how many frames are real."""

    blocks: Sequence[KeyValues | None]
    lengths: Tensor


class FeedForward(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = Linear(width, hidden)
        self.contract = Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(features), approximate="tanh"))


class Block(nn.Module):
    """Pre-norm: attention in space, causal attention in time, then ONE feed-forward after both."""

    def __init__(self, config: TransformerConfig, context_length: int, condition_width: int | None) -> None:
        super().__init__()
        width, sizes = config.width, (config.width, config.heads, config.head_dim, config.value_head_dim)
        self.spatial_norm: LayerNorm | None = None
        self.spatial: SpatialAttention | None = None
        self.causal_norm: LayerNorm | None = None
        self.causal: CausalAttention | None = None
        self.modulate: Linear | None = None
        if config.attention != "full":
            self.spatial_norm, self.spatial = LayerNorm(width), SpatialAttention(*sizes)
        if config.attention != "spatial":
            kind: type[CausalAttention] = TemporalAttention if config.attention == "st" else FullAttention
            self.causal_norm, self.causal = LayerNorm(width), kind(*sizes, context_length)
        if condition_width is not None:
            self.modulate = Linear(condition_width, 2 * width)
        self.feed_forward_norm = LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward_width)

    def forward(
        self, features: Tensor, past: KeyValues | None, lengths: Tensor | None, condition: Tensor | None
    ) -> tuple[Tensor, KeyValues | None]:
        keys_values = None
        if self.spatial is not None and self.spatial_norm is not None:
            features = features + self.spatial(self.spatial_norm(features))
        if self.causal is not None and self.causal_norm is not None:
            mixed, keys_values = self.causal(self.causal_norm(features), past, lengths)
            features = features + mixed
        hidden = self.feed_forward_norm(features)
        if self.modulate is not None:
            scale, shift = self.modulate(condition).chunk(2, dim=-1)
            hidden = hidden * (1 + scale) + shift
        return features + self.feed_forward(hidden), keys_values


class SpatioTemporalTransformer(nn.Module):
    """A stack of blocks over (T, B, N, D) features, time first; frame t never sees frame t + 1.

    Args:
        config: Sizes and kind of attention.
        context_length: Frames a causal attention looks at, itself included.
        condition_width: Features of a per-frame condition that scales and shifts every block (FiLM).
    """

    def __init__(self, config: TransformerConfig, context_length: int, condition_width: int | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, context_length, condition_width) for _ in range(config.layers))
        self.norm = LayerNorm(config.width)
        self.apply(_initialise)

    def forward(
        self, features: Tensor, past: Past | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, list[KeyValues | None]]:
        """Transform the frames given, which follow those in ``past``.

        Args:
            features: (T, B, N, D).
            past: Keys and values of earlier frames.
            condition: (T, B, 1, condition_width).

        Returns:
            (T, B, N, D) after a last norm, and each block's keys and values, old and new.
        """
        remembered: list[KeyValues | None] = []
        for index, block in enumerate(self.blocks):
            earlier, lengths = (None, None) if past is None else (past.blocks[index], past.lengths)
            features, keys_values = block(features, earlier, lengths, condition)
            remembered.append(keys_values)
        return self.norm(features), remembered


def _initialise(module: nn.Module) -> None:
    if isinstance(module, Linear):
        nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5, a=-3.0, b=3.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Block):
        branches = [module.feed_forward.contract]
        branches += [branch.project_out for branch in (module.spatial, module.causal) if branch is not None]
        for last in branches:
            nn.init.normal_(last.weight, std=0.02)
