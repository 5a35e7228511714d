"""A whole step of an ST-transformer as one kernel, with matrix products of its own."""

from collections.abc import Sequence
from ctypes import Array, Structure, byref, c_int64, c_void_p
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.serving import kernels
from genie_gym.serving.kernels import NormWeights, PackedWeights

if TYPE_CHECKING:
    from genie_gym.nn.attention import Attention, KVCache
    from genie_gym.nn.st_transformer import Block, SpatioTemporalTransformer

CHUNK_TOKENS = 512
"""Tokens that go through all blocks together: few enough to stay in the processor's caches."""
KEPT_CONDITIONS = 64
"""Conditions whose norms are kept, at most."""


class AttentionWeights(Structure):
    """Of an attention and the norm before it, as transformer.cpp has them."""

    _fields_ = [
        ("norm", NormWeights),
        ("query_norm", NormWeights),
        ("key_norm", NormWeights),
        ("project_in", PackedWeights),
        ("project_out", PackedWeights),
    ]


class BlockWeights(Structure):
    """Of a block, as transformer.cpp has them."""

    _fields_ = [
        ("spatial", AttentionWeights),
        ("causal", AttentionWeights),
        ("forward_norm", NormWeights),
        ("expand", PackedWeights),
        ("contract", PackedWeights),
    ]


class BlockMemory(Structure):
    """A block's slots, the bias on their scores and FiLM's norms, as transformer.cpp has them."""

    _fields_ = [("keys", c_void_p), ("values", c_void_p), ("bias", c_void_p), ("forward_norms", c_void_p)]


class Sizes(Structure):
    """Of a step, as transformer.cpp has them."""

    _fields_ = [
        (name, c_int64)
        for name in ("frames", "batch", "places", "width", "heads", "slots", "bias_rows", "blocks", "chunk")
    ]


def can_step(transformer: "SpatioTemporalTransformer", features: Tensor) -> bool:
    """Whether ``PackedTransformer`` computes this step."""
    first = cast("Block", transformer.blocks[0])
    if first.spatial is None or first.causal is None or not first.causal.is_per_place:
        return False
    if any(layer.in_features % 2 for layer in (first.causal.project_out, first.feed_forward.contract)):
        return False  # types of 16 bits are multiplied in pairs
    return kernels.are_usable_for_heads(features, first.causal.head_dim, first.causal.value_dim)


class PackedTransformer:
    """A transformer's weights as they are at this moment, packed for ``step``.

    Args:
        transformer: Of whose blocks ``can_step`` says yes.
        dtype: Of the features.
    """

    def __init__(self, transformer: "SpatioTemporalTransformer", dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.parameters = list(transformer.parameters())
        self.state = self._state()
        first = cast("Block", transformer.blocks[0])
        assert first.causal is not None
        self.heads = first.causal.heads
        self.library = kernels.transformer_library(first.causal.head_dim, first.causal.value_dim)
        self._kept: list[Tensor] = []
        layers = [cast("Block", block) for block in transformer.blocks]
        blocks = [self._pack_block(block) for block in layers]
        self._modulation = None if first.modulate is None else _join_modulations(layers)
        self._modulated: dict[bytes, Tensor] = {}
        self.blocks = (BlockWeights * len(blocks))(*blocks)
        self.norm = self._norm(transformer.norm)

    def __reduce__(self) -> tuple[type, tuple]:
        """Copies of the transformer pack their own weights: these are known by where they lie in memory."""
        return type(None), ()

    def is_current(self, dtype: torch.dtype) -> bool:
        """Whether the weights are still those that were packed."""
        return dtype == self.dtype and self._state() == self.state

    def step(
        self,
        features: Tensor,
        slots: Sequence["KVCache | None"],
        where: Tensor,
        biases: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """See ``SpatioTemporalTransformer.step``.

        Args:
            features: (F, B, N, D).
            slots: One a block, changed in place.
            where: (F, B) int64, the slots of the frames.
            biases: (blocks, B or 1, heads, F, S).
            condition: (F, B, 1, condition_width).

        Returns:
            (1, B, N, D).
        """
        features, biases, where = features.contiguous(), biases.contiguous(), where.contiguous()
        frames, batch, places, width = features.shape
        out = features.new_empty(1, batch, places, width)
        norms = None if condition is None else self._modulate_norms(condition[:, :, 0].float())
        sizes = Sizes(
            frames=frames,
            batch=batch,
            places=places,
            width=width,
            heads=self.heads,
            slots=biases.shape[-1],
            bias_rows=biases.shape[1],
            blocks=len(self.blocks),
            chunk=max(1, CHUNK_TOKENS // (frames * places)),
        )
        self.library.genie_step(
            kernels.KINDS[self.dtype],
            out.data_ptr(),
            features.data_ptr(),
            self.blocks,
            self._memories(slots, biases, norms),
            byref(self.norm),
            where.data_ptr(),
            byref(sizes),
            torch.get_num_threads(),
        )
        return out

    def _state(self) -> list[tuple[int, int]]:
        return [(weight.data_ptr(), weight._version) for weight in self.parameters]

    def _modulate_norms(self, conditions: Tensor) -> Tensor:
        """(F, B, features) -> (blocks, F, B, 2, D): weight and bias of each feed-forward's norm, scaled and shifted.

        A world has a few actions only, so what one of them comes to is kept.
        """
        rows = [self._modulate(each) for each in conditions.flatten(0, 1)]
        return torch.stack(rows, dim=1).unflatten(1, conditions.shape[:2])

    def _modulate(self, condition: Tensor) -> Tensor:
        """(features,) -> (blocks, 2, D)."""
        assert self._modulation is not None
        key = condition.numpy().tobytes()
        if key not in self._modulated:
            if len(self._modulated) >= KEPT_CONDITIONS:
                self._modulated.clear()
            weight, bias = self._modulation
            self._modulated[key] = F.linear(condition, weight, bias).view(len(self.blocks), 2, -1)
        return self._modulated[key]

    def _memories(self, slots: Sequence["KVCache | None"], biases: Tensor, norms: Tensor | None) -> Array[BlockMemory]:
        memories = (BlockMemory * len(slots))()
        start, stride = biases.data_ptr(), biases.stride(0) * biases.element_size()
        for number, own in enumerate(slots):
            assert own is not None
            assert own.keys.is_contiguous()
            assert own.values.is_contiguous()
            modulated = None if norms is None else norms[number].data_ptr()
            bias = start + number * stride
            memories[number] = BlockMemory(own.keys.data_ptr(), own.values.data_ptr(), bias, modulated)
        return memories

    def _pack_block(self, block: "Block") -> BlockWeights:
        assert block.spatial is not None
        assert block.causal is not None
        return BlockWeights(
            self._attention(cast(nn.LayerNorm, block.spatial_norm), block.spatial),
            self._attention(cast(nn.LayerNorm, block.causal_norm), block.causal),
            self._norm(block.feed_forward_norm),
            self._linear(cast(nn.Linear, block.feed_forward.expand)),
            self._linear(block.feed_forward.contract),
        )

    def _attention(self, norm: nn.LayerNorm, attention: "Attention") -> AttentionWeights:
        return AttentionWeights(
            self._norm(norm),
            self._norm(attention.query_norm),
            self._norm(attention.key_norm),
            self._linear(attention.project_in),
            self._linear(attention.project_out),
        )

    def _norm(self, norm: nn.LayerNorm) -> NormWeights:
        weights, own = kernels.norm_weights(norm, self.dtype)
        self._kept += weights
        return own

    def _linear(self, layer: nn.Linear) -> PackedWeights:
        packed, kept = kernels.pack_weights(layer.weight, layer.bias, self.dtype, self.library)
        self._kept += kept
        return packed


def _join_modulations(blocks: Sequence["Block"]) -> tuple[Tensor, Tensor]:
    """One layer for all blocks: from a condition to each one's norm, with FiLM's scale and shift in.

    A norm n w + b, scaled by 1 + s and shifted by t, is one with the weight w (1 + s) and the bias b (1 + s) + t.

    Returns:
        Weight (2 blocks D, features) and bias, float32.
    """
    weights, biases = [], []
    for block in blocks:
        assert block.modulate is not None
        norm = block.feed_forward_norm
        scale, shift = block.modulate.weight.float().chunk(2)
        plus, moved = block.modulate.bias.float().chunk(2)
        for own, added, constant in ((norm.weight, 0, 0), (norm.bias, shift, moved)):
            weights.append(own.float()[:, None] * scale + added)
            biases.append(own.float() * (1 + plus) + constant)
    return torch.cat(weights), torch.cat(biases)
