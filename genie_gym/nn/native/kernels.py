"""The kernels as functions of tensors. Each has a twin in plain PyTorch, which trains and which it must equal.

They take CPU tensors of float32 or bfloat16 where no gradient is wanted: ``are_usable`` says so.
"""

import ctypes
import functools
from collections.abc import Sequence
from ctypes import c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor, nn

from genie_gym.nn.native.build import load_library

KINDS = {torch.float32: 0, torch.bfloat16: 1}

LANES = 16
"""Rows are multiples of this many features."""


class QKNorm(ctypes.Structure):
    """The LayerNorms over a head's queries and keys, as attention.cpp has them."""

    _fields_ = [
        ("query_weight", c_void_p),
        ("query_bias", c_void_p),
        ("key_weight", c_void_p),
        ("key_bias", c_void_p),
        ("query_epsilon", c_float),
        ("key_epsilon", c_float),
    ]


class Ring(ctypes.Structure):
    """The sizes of a step in time, as attention.cpp has them."""

    _fields_ = [(name, c_int64) for name in ("frames", "batch", "places", "heads", "slots", "outputs")]


def are_usable(features: Tensor) -> bool:
    """Whether the kernels for rows of features (..., D) take these."""
    return (
        not torch.is_grad_enabled()
        and features.device.type == "cpu"
        and features.dtype in KINDS
        and features.shape[-1] % LANES == 0
        and not torch.compiler.is_compiling()
        and _pointwise() is not None
    )


def are_usable_for_heads(features: Tensor, head_dim: int, value_dim: int) -> bool:
    """The same of those for attention, which take heads of any size."""
    return are_usable(features) and _attention(head_dim, value_dim) is not None


def add_norm(features: Tensor, addend: Tensor | None, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """``features + addend``, and the LayerNorm of that, (..., D) each. Without an addend the features themselves."""
    features = features.contiguous()
    addend = None if addend is None else addend.contiguous()
    sums, normed = features if addend is None else torch.empty_like(features), torch.empty_like(features)
    weight, bias = norm.weight.to(features.dtype), norm.bias.to(features.dtype)
    _pointwise().genie_add_norm(
        KINDS[features.dtype],
        sums.data_ptr(),
        normed.data_ptr(),
        features.data_ptr(),
        None if addend is None else addend.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        norm.eps,
        features.numel() // features.shape[-1],
        features.shape[-1],
        torch.get_num_threads(),
    )
    return sums, normed


def gelu_(features: Tensor) -> Tensor:
    """Tanh-GELU of contiguous (..., D), in place."""
    assert features.is_contiguous()
    _pointwise().genie_gelu(KINDS[features.dtype], features.data_ptr(), features.numel(), torch.get_num_threads())
    return features


def draw(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See ``models.maskgit.draw``."""
    logits, uniforms = logits.contiguous(), uniforms.float().contiguous()
    tokens, log_shares = torch.empty(uniforms.shape, dtype=torch.int64), torch.empty(uniforms.shape)
    _pointwise().genie_draw(
        KINDS[logits.dtype],
        tokens.data_ptr(),
        log_shares.data_ptr(),
        logits.data_ptr(),
        uniforms.data_ptr(),
        temperature,
        tokens.numel(),
        logits.shape[-1],
        torch.get_num_threads(),
    )
    return tokens, log_shares


def attend_in_space(
    projected: Tensor, heads: int, head_dim: int, value_dim: int, norms: Sequence[nn.LayerNorm]
) -> Tensor:
    """Attention within frames, QK-norm included.

    Args:
        projected: (..., N, heads * (head_dim + head_dim + value_dim)): queries, keys, values of each token.
        heads: Of each.
        head_dim: Features of a head's queries, and of its keys.
        value_dim: Features of a head's values.
        norms: Of queries and of keys.

    Returns:
        (..., N, heads * value_dim).
    """
    projected = projected.contiguous()
    mixed = projected.new_empty(*projected.shape[:-1], heads * value_dim)
    weights, norm = _qk_norm(norms, projected.dtype)
    places = projected.shape[-2]
    _attention(head_dim, value_dim).genie_spatial(
        KINDS[projected.dtype],
        mixed.data_ptr(),
        projected.data_ptr(),
        norm,
        projected.numel() // (places * projected.shape[-1]),
        places,
        heads,
        torch.get_num_threads(),
    )
    del weights  # alive until here
    return mixed


def attend_in_time(
    projected: Tensor,
    slots: tuple[Tensor, Tensor],
    where: Tensor,
    bias: Tensor,
    norms: Sequence[nn.LayerNorm],
    outputs: int,
) -> Tensor:
    """Write new frames' keys and values into slots, and attend to these; QK-norm included.

    Args:
        projected: (F, B, N, heads * (head_dim + head_dim + value_dim)).
        slots: Keys (B, N, heads, S, head_dim) and values (B, N, heads, S, value_dim), changed in place.
        where: (F, B) int64, the frames' own slots.
        bias: (B or 1, heads, F, S), added to the scores.
        norms: Of queries and of keys.
        outputs: How many of the last frames to return.

    Returns:
        (outputs, B, N, heads * value_dim).
    """
    keys, values = slots
    projected, bias, where = projected.contiguous(), bias.contiguous(), where.contiguous()
    assert keys.is_contiguous()
    assert values.is_contiguous()
    frames, batch, places, _ = projected.shape
    heads, count, head_dim, value_dim = *keys.shape[2:], values.shape[-1]
    mixed = projected.new_empty(outputs, batch, places, heads * value_dim)
    weights, norm = _qk_norm(norms, projected.dtype)
    _attention(head_dim, value_dim).genie_temporal(
        KINDS[projected.dtype],
        mixed.data_ptr(),
        projected.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        where.data_ptr(),
        bias.data_ptr(),
        len(bias),
        norm,
        Ring(frames, batch, places, heads, count, outputs),
        torch.get_num_threads(),
    )
    del weights
    return mixed


def _qk_norm(norms: Sequence[nn.LayerNorm], dtype: torch.dtype) -> tuple[list[Tensor], QKNorm]:
    """The weights in the features' precision, which have to outlive the call, and where they are."""
    weights = [weight.to(dtype) for norm in norms for weight in (norm.weight, norm.bias)]
    return weights, QKNorm(*(weight.data_ptr() for weight in weights), *(norm.eps for norm in norms))


@functools.cache
def _pointwise() -> Any:
    library = load_library("pointwise")
    if library is not None:
        rows = [c_void_p] * 6 + [c_float, c_int64, c_int64, c_int]
        _declare(library.genie_add_norm, rows)
        _declare(library.genie_gelu, [c_void_p, c_int64, c_int])
        _declare(library.genie_draw, [c_void_p] * 4 + [c_float, c_int64, c_int64, c_int])
    return library


@functools.cache
def _attention(head_dim: int, value_dim: int) -> Any:
    library = load_library("attention", f"HEAD_DIM={head_dim}", f"VALUE_DIM={value_dim}")
    if library is not None:
        norm, ring = ctypes.POINTER(QKNorm), ctypes.POINTER(Ring)
        _declare(library.genie_spatial, [c_void_p] * 2 + [norm, c_int64, c_int64, c_int64, c_int])
        _declare(library.genie_temporal, [c_void_p] * 6 + [c_int64, norm, ring, c_int])
    return library


def _declare(function: Any, arguments: list[Any]) -> None:
    """All take the kind first, and none returns anything."""
    function.argtypes, function.restype = [c_int, *arguments], None
