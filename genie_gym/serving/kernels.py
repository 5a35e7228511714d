"""The kernels as functions of tensors; each equals a function in plain PyTorch up to rounding.

They take CPU tensors of float32 or bfloat16, and only without gradients: ``are_usable`` checks that.
"""

import functools

import torch
from torch import Tensor, nn

from genie_gym.models import maskgit
from genie_gym.nn.attention import KVCache
from genie_gym.serving.libraries import KINDS, CacheSizes, norm_weights, rows_library, transformer_library
from genie_gym.serving.threads import kernel_threads

_LANES = 16
"""The number of features must be a multiple of this."""


def are_usable(features: Tensor) -> bool:
    """Return whether the kernels for rows take these features (..., D)."""
    return (
        not torch.is_grad_enabled()
        and features.device.type == "cpu"
        and features.shape[-1] % _LANES == 0
        and not torch.compiler.is_compiling()
        and can_multiply(features.dtype)
    )


@functools.cache
def can_multiply(dtype: torch.dtype) -> bool:
    """Return whether this machine has kernels for a type."""
    return dtype in KINDS and rows_library() is not None


def may_use_tiles() -> bool:
    """Return whether bfloat16 may be multiplied by a processor's tiles (AMX); PyTorch alone decides for itself."""
    library = rows_library()
    return library is None or bool(library.genie_has_tiles())


def are_usable_for_heads(features: Tensor, head_dim: int, value_dim: int) -> bool:
    """Return whether the attention kernels, compiled for this head size, take these features."""
    return are_usable(features) and transformer_library(head_dim, value_dim) is not None


def add_norm(features: Tensor, addend: Tensor | None, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Return ``features + addend`` (the features themselves without an addend) and its LayerNorm, (..., D) each."""
    features = features.contiguous()
    addend = None if addend is None else addend.contiguous()
    sums, normed = features if addend is None else torch.empty_like(features), torch.empty_like(features)
    kept, weights = norm_weights(norm, features.dtype)
    rows_library().genie_add_norm(
        KINDS[features.dtype],
        sums.data_ptr(),
        normed.data_ptr(),
        features.data_ptr(),
        None if addend is None else addend.data_ptr(),
        weights,
        features.numel() // features.shape[-1],
        features.shape[-1],
        kernel_threads(),
    )
    del kept  # not before the call: ``weights`` points into them
    return sums, normed


def gelu_(features: Tensor) -> Tensor:
    """Apply the tanh-GELU to contiguous (..., D), in place."""
    assert features.is_contiguous()
    rows_library().genie_gelu(KINDS[features.dtype], features.data_ptr(), features.numel(), kernel_threads())
    return features


def draw_tokens(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Sample tokens as ``models.maskgit.draw`` does, which is called if the kernels cannot be used."""
    if not are_usable(logits):
        return maskgit.draw(logits, temperature, uniforms)
    logits, uniforms = logits.contiguous(), uniforms.float().contiguous()
    tokens, log_probabilities = torch.empty(uniforms.shape, dtype=torch.int64), torch.empty(uniforms.shape)
    rows_library().genie_draw(
        KINDS[logits.dtype],
        tokens.data_ptr(),
        log_probabilities.data_ptr(),
        logits.data_ptr(),
        uniforms.data_ptr(),
        temperature,
        tokens.numel(),
        logits.shape[-1],
        kernel_threads(),
    )
    return tokens, log_probabilities


def attend_in_space(projected: Tensor, heads: int, query_norm: nn.LayerNorm, key_norm: nn.LayerNorm) -> Tensor:
    """Attend within frames, QK-norm included.

    Args:
        projected: (..., N, heads * (head_dim + head_dim + value_dim)): queries, keys and values of each token.
        heads: Number of heads.
        query_norm: Norm of each head's queries.
        key_norm: Norm of each head's keys.

    Returns:
        (..., N, heads * value_dim).
    """
    projected = projected.contiguous()
    positions, width = projected.shape[-2:]
    head_dim = query_norm.normalized_shape[0]
    value_dim = width // heads - 2 * head_dim
    mixed = projected.new_empty(*projected.shape[:-1], heads * value_dim)
    (query_kept, query), (key_kept, key) = (norm_weights(norm, projected.dtype) for norm in (query_norm, key_norm))
    transformer_library(head_dim, value_dim).genie_attend_in_space(
        KINDS[projected.dtype],
        mixed.data_ptr(),
        projected.data_ptr(),
        query,
        key,
        projected.numel() // (positions * width),
        positions,
        heads,
        kernel_threads(),
    )
    del query_kept, key_kept
    return mixed


def attend_in_time(
    projected: Tensor,
    cache: KVCache,
    indices: Tensor,
    bias: Tensor,
    norms: tuple[nn.LayerNorm, nn.LayerNorm],
    outputs: int,
) -> Tensor:
    """Write the keys and values of new frames into the KV cache, and attend to it; QK-norm included.

    Args:
        projected: (F, B, N, heads * (head_dim + head_dim + value_dim)).
        cache: Keys (B, N, heads, S, head_dim) and values (B, N, heads, S, value_dim), changed in place.
        indices: (F, B) int64, cache index of each new frame.
        bias: (B or 1, heads, F, S), added to the scores.
        norms: Norms of each head's queries and keys.
        outputs: Number of frames to return, the last of the F.

    Returns:
        (outputs, B, N, heads * value_dim).
    """
    keys, values = cache
    assert keys.is_contiguous()
    assert values.is_contiguous()
    projected, bias, indices = projected.contiguous(), bias.contiguous(), indices.contiguous()
    frames, batch, positions, _ = projected.shape
    heads, count, head_dim, value_dim = *keys.shape[2:], values.shape[-1]
    mixed = projected.new_empty(outputs, batch, positions, heads * value_dim)
    (query_kept, query), (key_kept, key) = (norm_weights(norm, projected.dtype) for norm in norms)
    transformer_library(head_dim, value_dim).genie_attend_in_time(
        KINDS[projected.dtype],
        mixed.data_ptr(),
        projected.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        indices.data_ptr(),
        bias.data_ptr(),
        query,
        key,
        CacheSizes(frames, batch, positions, heads, count, outputs, batch, len(bias)),
        kernel_threads(),
    )
    del query_kept, key_kept
    return mixed
