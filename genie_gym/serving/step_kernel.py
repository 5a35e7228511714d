"""A cached step of a whole ST-transformer as one kernel."""

from collections.abc import Sequence
from ctypes import Array, Structure, byref, c_int64, c_void_p
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.nn.attention import Attention, CacheIndex, KVCache, TemporalAttention
from genie_gym.nn.st_transformer import Block, SpatioTemporalTransformer
from genie_gym.serving import kernels
from genie_gym.serving.libraries import (
    KINDS,
    NormWeights,
    PackedWeights,
    norm_weights,
    pack_weights,
    transformer_library,
)
from genie_gym.serving.threads import kernel_threads

_CHUNK_TOKENS = 512
"""Number of tokens that go through all blocks together: few enough to stay in the processor's caches."""
_MOST_CONDITIONS = 64
"""Number of FiLM conditions whose scaled norms are kept."""


class AttentionWeights(Structure):
    """Weights of an attention and the norm before it, as in transformer.cpp."""

    _fields_ = [
        ("norm", NormWeights),
        ("query_norm", NormWeights),
        ("key_norm", NormWeights),
        ("project_in", PackedWeights),
        ("project_out", PackedWeights),
    ]


class BlockWeights(Structure):
    """Weights of a block, as in transformer.cpp."""

    _fields_ = [
        ("spatial", AttentionWeights),
        ("causal", AttentionWeights),
        ("forward_norm", NormWeights),
        ("expand", PackedWeights),
        ("contract", PackedWeights),
    ]


class BlockMemory(Structure):
    """A block's KV cache, the bias on its scores and FiLM's norms, as in transformer.cpp."""

    _fields_ = [("keys", c_void_p), ("values", c_void_p), ("bias", c_void_p), ("forward_norms", c_void_p)]


class StepSizes(Structure):
    """Sizes of a step, as in transformer.cpp."""

    _fields_ = [
        (name, c_int64)
        for name in ("frames", "batch", "positions", "width", "heads", "cache_frames", "bias_rows", "blocks", "chunk")
    ]


def stack_indices(indices: Sequence[CacheIndex], batch: int) -> Tensor:
    """Stack the cache indices of F frames as (F, B) int64."""
    return torch.stack([torch.as_tensor(index).expand(batch) for index in indices])


class StepKernel:
    """The weights of a transformer at this moment, packed for its cached step.

    Args:
        transformer: Transformer that ``takes`` accepts.
        dtype: Type of the features.
    """

    def __init__(self, transformer: SpatioTemporalTransformer, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.parameters = list(transformer.parameters())
        self.state = self._state()
        blocks = [cast(Block, block) for block in transformer.blocks]
        first = blocks[0].causal
        assert first is not None
        self.heads = first.heads
        self.library = transformer_library(first.head_dim, first.value_dim)
        self._kept: list[Tensor] = []  # tensors that the pointers in the structures point to
        packed = [self._pack_block(block) for block in blocks]
        self._modulation = None if blocks[0].modulate is None else _join_modulations(blocks)
        self._modulated: dict[bytes, Tensor] = {}
        self.blocks = (BlockWeights * len(packed))(*packed)
        self.norm = self._norm(transformer.norm)

    @staticmethod
    def takes(transformer: SpatioTemporalTransformer, features: Tensor) -> bool:
        """Return whether there is a kernel for the step of this transformer with these features."""
        first = cast(Block, transformer.blocks[0])
        if first.spatial is None or not isinstance(first.causal, TemporalAttention):
            return False
        if any(layer.in_features % 2 for layer in (first.causal.project_out, first.feed_forward.contract)):
            return False  # types of 16 bits are multiplied in pairs
        return kernels.are_usable_for_heads(features, first.causal.head_dim, first.causal.value_dim)

    def __reduce__(self) -> tuple[type, tuple]:
        """Copy to None: packed weights are pointers into this process's memory, and a copied transformer packs anew."""
        return type(None), ()

    def is_current(self, dtype: torch.dtype) -> bool:
        """Return whether the weights are still those that were packed: same storage, same version, same type."""
        return dtype == self.dtype and self._state() == self.state

    def step(
        self,
        features: Tensor,
        caches: Sequence[KVCache | None],
        indices: Tensor,
        biases: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Compute ``SpatioTemporalTransformer.step``.

        Args:
            features: (F, B, N, D).
            caches: One KV cache per block, changed in place.
            indices: (F, B) int64, cache index of each frame.
            biases: (blocks, B or 1, heads, F, S).
            condition: (F, B, 1, condition_width).

        Returns:
            (1, B, N, D).
        """
        features, biases, indices = features.contiguous(), biases.contiguous(), indices.contiguous()
        frames, batch, positions, width = features.shape
        out = features.new_empty(1, batch, positions, width)
        norms = None if condition is None else self._modulate_norms(condition[:, :, 0].float())
        sizes = StepSizes(
            frames=frames,
            batch=batch,
            positions=positions,
            width=width,
            heads=self.heads,
            cache_frames=biases.shape[-1],
            bias_rows=biases.shape[1],
            blocks=len(self.blocks),
            chunk=max(1, _CHUNK_TOKENS // (frames * positions)),
        )
        self.library.genie_step(
            KINDS[self.dtype],
            out.data_ptr(),
            features.data_ptr(),
            self.blocks,
            self._memories(caches, biases, norms),
            byref(self.norm),
            indices.data_ptr(),
            byref(sizes),
            kernel_threads(),
        )
        return out

    def _state(self) -> list[tuple[int, int]]:
        return [(weight.data_ptr(), weight._version) for weight in self.parameters]

    def _modulate_norms(self, conditions: Tensor) -> Tensor:
        """Scale and shift the feed-forward norms by FiLM conditions: (F, B, features) -> (blocks, F, B, 2, D).

        The last two axes are a norm's weight and bias. Conditions come from a few latent actions, so results are kept.
        """
        rows = [self._modulate(each) for each in conditions.flatten(0, 1)]
        return torch.stack(rows, dim=1).unflatten(1, conditions.shape[:2])

    def _modulate(self, condition: Tensor) -> Tensor:
        """Scale and shift the norms by one condition: (features,) -> (blocks, 2, D)."""
        assert self._modulation is not None
        key = condition.numpy().tobytes()
        if key not in self._modulated:
            if len(self._modulated) >= _MOST_CONDITIONS:
                self._modulated.clear()
            weight, bias = self._modulation
            self._modulated[key] = F.linear(condition, weight, bias).view(len(self.blocks), 2, -1)
        return self._modulated[key]

    def _memories(self, caches: Sequence[KVCache | None], biases: Tensor, norms: Tensor | None) -> Array[BlockMemory]:
        memories = (BlockMemory * len(caches))()
        start, stride = biases.data_ptr(), biases.stride(0) * biases.element_size()
        for number, own in enumerate(caches):
            assert own is not None
            assert own.keys.is_contiguous()
            assert own.values.is_contiguous()
            modulated = None if norms is None else norms[number].data_ptr()
            bias = start + number * stride
            memories[number] = BlockMemory(own.keys.data_ptr(), own.values.data_ptr(), bias, modulated)
        return memories

    def _pack_block(self, block: Block) -> BlockWeights:
        assert block.spatial is not None
        assert block.causal is not None
        return BlockWeights(
            self._attention(cast(nn.LayerNorm, block.spatial_norm), block.spatial),
            self._attention(cast(nn.LayerNorm, block.causal_norm), block.causal),
            self._norm(block.feed_forward_norm),
            self._linear(cast(nn.Linear, block.feed_forward.expand)),
            self._linear(block.feed_forward.contract),
        )

    def _attention(self, norm: nn.LayerNorm, attention: Attention) -> AttentionWeights:
        return AttentionWeights(
            self._norm(norm),
            self._norm(attention.query_norm),
            self._norm(attention.key_norm),
            self._linear(attention.project_in),
            self._linear(attention.project_out),
        )

    def _norm(self, norm: nn.LayerNorm) -> NormWeights:
        weights, own = norm_weights(norm, self.dtype)
        self._kept += weights
        return own

    def _linear(self, layer: nn.Linear) -> PackedWeights:
        packed, kept = pack_weights(layer.weight, layer.bias, self.dtype, self.library)
        self._kept += kept
        return packed


def _join_modulations(blocks: Sequence[Block]) -> tuple[Tensor, Tensor]:
    """Join FiLM and the feed-forward norms of all blocks into one linear layer on the condition.

    A norm n w + b that is scaled by 1 + s and shifted by t is a norm with weight w (1 + s) and bias b (1 + s) + t.

    Returns:
        Weight (2 blocks D, features) and bias (2 blocks D,), float32.
    """
    weights, biases = [], []
    for block in blocks:
        assert block.modulate is not None
        norm = block.feed_forward_norm
        scale_weight, shift_weight = block.modulate.weight.float().chunk(2)
        scale_bias, shift_bias = block.modulate.bias.float().chunk(2)
        for own, added_weight, added_bias in ((norm.weight, 0, 0), (norm.bias, shift_weight, shift_bias)):
            weights.append(own.float()[:, None] * scale_weight + added_weight)
            biases.append(own.float() * (1 + scale_bias) + added_bias)
    return torch.cat(weights), torch.cat(biases)
