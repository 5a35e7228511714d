"""The paper's ST-transformer (sec. 2.1) and its two rivals, behind one interface."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import TransformerConfig
from genie_gym.nn.attention import (
    CausalAttention,
    FullAttention,
    KeyValues,
    KVCache,
    Slot,
    SpatialAttention,
    TemporalAttention,
    Window,
    add_distance,
    stack_indices,
)
from genie_gym.nn.layers import GridConvolution, LayerNorm, Linear
from genie_gym.serving import kernels
from genie_gym.serving.packed_transformer import PackedTransformer, can_step

KEPT_LOOKS = 256
"""Windows whose biases are kept, at most."""


class FeedForward(nn.Module):
    """Linear, GELU, linear; with a grid of tokens a 3 x 3 convolution in place of the first."""

    def __init__(self, width: int, hidden: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.expand = Linear(width, hidden) if grid is None else GridConvolution(width, hidden, grid)
        self.contract = Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.expand(features)
        if kernels.are_usable(hidden):
            return self.contract(kernels.gelu_(hidden))
        return self.contract(F.gelu(hidden, approximate="tanh"))


class Stream(NamedTuple):
    """A residual stream (T, B, N, D) whose last addend waits to be added until the next norm reads both."""

    features: Tensor
    addend: Tensor | None = None

    def read(self, norm: LayerNorm) -> tuple[Tensor, Tensor]:
        """The sum, and the same after a norm."""
        if kernels.are_usable(self.features):
            return kernels.add_norm(self.features, self.addend, norm)
        features = self.features if self.addend is None else self.features + self.addend
        return features, norm(features)


class Block(nn.Module):
    """Pre-norm: attention in space, causal attention in time, then ONE feed-forward after both."""

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

    def forward(self, stream: Stream, condition: Tensor | None) -> tuple[Stream, KeyValues | None]:
        """Frames that follow none; with them their keys and values."""
        remembered: list[KeyValues] = []

        def attend(causal: CausalAttention, normed: Tensor) -> Tensor:
            mixed, keys_values = causal(normed)
            remembered.append(keys_values)
            return cast(Tensor, mixed)

        stream = self._transform(stream, condition, attend)
        return stream, remembered[0] if remembered else None

    def step(
        self,
        stream: Stream,
        condition: Tensor | None,
        slots: KVCache | None,
        where: Sequence[Slot],
        bias: Tensor,
        outputs: int,
    ) -> Stream:
        """``forward`` for frames that follow those in ``slots``, where theirs are written; the last ``outputs``."""

        def attend(causal: CausalAttention, normed: Tensor) -> Tensor:
            assert slots is not None
            return causal.step(normed, slots, where, bias, outputs)

        return self._transform(stream, condition, attend)

    def _transform(
        self, stream: Stream, condition: Tensor | None, attend: Callable[[CausalAttention, Tensor], Tensor]
    ) -> Stream:
        if self.spatial is not None and self.spatial_norm is not None:
            features, normed = stream.read(self.spatial_norm)
            stream = Stream(features, self.spatial(normed))
        if self.causal is not None and self.causal_norm is not None:
            features, normed = stream.read(self.causal_norm)
            mixed = attend(self.causal, normed)
            stream = Stream(features[-len(mixed) :], mixed)
        features, hidden = stream.read(self.feed_forward_norm)
        if self.modulate is not None and condition is not None:
            scale, shift = self.modulate(condition[-len(hidden) :]).chunk(2, dim=-1)
            hidden = hidden * (1 + scale) + shift
        return Stream(features, self.feed_forward(hidden))


class SpatioTemporalTransformer(nn.Module):
    """A stack of blocks over (T, B, N, D) features, time first; frame t never sees frame t + 1.

    Args:
        config: Sizes and kind of attention.
        context_length: Frames a causal attention looks at, itself included.
        condition_width: Features of a per-frame condition that scales and shifts every block (FiLM).
        grid: Rows and columns of a frame's tokens, for convolutions.
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
        self._packed: PackedTransformer | None = None
        self._looks: dict[tuple[int, int], tuple[Window, Tensor, Tensor]] = {}
        self.apply(_initialise)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> tuple[Tensor, list[KeyValues | None]]:
        """Transform whole videos.

        Args:
            features: (T, B, N, D); beyond ``context_length`` frames each still sees that many.
            condition: (T, B, 1, condition_width).

        Returns:
            (T, B, N, D) after a last norm, and each block's keys and values.
        """
        remembered: list[KeyValues | None] = []
        stream = Stream(features)
        for block in self.blocks:
            stream, keys_values = block(stream, condition)
            remembered.append(keys_values)
        return stream.read(self.norm)[1], remembered

    def step(
        self, features: Tensor, slots: Sequence[KVCache | None], window: Window, condition: Tensor | None = None
    ) -> Tensor:
        """The last of F frames that follow others; equals ``forward`` over all of them (see ``FrameCache``).

        Args:
            features: (F, B, N, D).
            slots: One a block, changed in place.
            window: Where the frames go, and what they see.
            condition: (F, B, 1, condition_width).

        Returns:
            (1, B, N, D) after a last norm. The last block has nothing to do for the other frames but remember them.
        """
        if can_step(self, features):
            packed = self._pack(features.dtype)
            return packed.step(features, slots, *self._look(window, features), condition)
        stream, last, biases = Stream(features), len(self.blocks) - 1, self._biases(window, features)
        for number, (block, own, bias) in enumerate(zip(self.blocks, slots, biases, strict=True)):
            outputs = 1 if number == last else len(features)
            stream = cast(Block, block).step(stream, condition, own, window.slots, bias, outputs)
        return stream.read(self.norm)[1][-1:]

    def _pack(self, dtype: torch.dtype) -> PackedTransformer:
        """Weights packed for a kernel, anew where they have changed."""
        if self._packed is None or not self._packed.is_current(dtype):
            self._packed = PackedTransformer(self, dtype)
            self._looks.clear()
        return self._packed

    def _look(self, window: Window, features: Tensor) -> tuple[Tensor, Tensor]:
        """Where the frames go, (F, B) int64, and ``_biases``; kept while weights stay, where rows go round together."""
        batch, is_common = features.shape[1], len(window.distance) == 1
        kept = self._looks.get((id(window), batch))
        if kept is not None and kept[0] is window:
            return kept[1:]
        look = stack_indices(window.slots, batch), self._biases(window, features)
        if is_common:
            if len(self._looks) >= KEPT_LOOKS:
                self._looks.clear()
            self._looks[id(window), batch] = window, *look
        return look

    def _biases(self, window: Window, features: Tensor) -> Tensor:
        """(blocks, B or 1, heads, F, S), added to the scores of attention in time."""
        causals = [cast(Block, block).causal for block in self.blocks]
        by_distance = torch.stack(
            [features.new_zeros(1, 1) if each is None else each.distance_bias for each in causals]
        )
        return add_distance(by_distance, window.distance, window.is_seen).to(features.dtype).contiguous()

    def empty_cache(self, batch: int, places: int, slots: int, dtype: torch.dtype) -> list[KVCache | None]:
        """Memory for ``step``, one a block; None where a block has no attention in time."""
        causals = [cast(Block, block).causal for block in self.blocks]
        return [None if each is None else each.empty_cache(batch, places, slots, dtype) for each in causals]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, Linear | GridConvolution):
        nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5, a=-3.0, b=3.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Block):
        branches = [module.feed_forward.contract]
        branches += [branch.project_out for branch in (module.spatial, module.causal) if branch is not None]
        for last in branches:
            nn.init.normal_(last.weight, std=0.02)
