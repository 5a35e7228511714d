"""The kernels as functions of tensors. Each has a twin in plain PyTorch, which trains and which it must equal.

They take CPU tensors of float32, bfloat16, or float16 where the processor multiplies it, if no gradient is wanted:
``are_usable`` says so.
"""

import ctypes
import functools
import logging
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from genie_gym.serving.build import load_library

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

logger = logging.getLogger(__name__)

LANES = 16
"""Rows are multiples of this many features."""

SPARE_ROWS = 31
"""Rows behind the last one that a product may read."""


class NormWeights(ctypes.Structure):
    """Of a LayerNorm, as rows.h has them."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("epsilon", c_float)]


class PackedWeights(ctypes.Structure):
    """Of a linear layer, as matmul.h has them."""

    _fields_ = [("panels", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64)]


class Ring(ctypes.Structure):
    """Sizes of a step in time, as attention.h has them."""

    _fields_ = [
        (name, c_int64)
        for name in ("frames", "batch", "places", "heads", "slots", "outputs", "where_stride", "bias_rows")
    ]


def are_usable(features: Tensor) -> bool:
    """Whether the kernels for rows of features (..., D) take these."""
    return (
        not torch.is_grad_enabled()
        and features.device.type == "cpu"
        and features.dtype in KINDS
        and features.shape[-1] % LANES == 0
        and not torch.compiler.is_compiling()
        and can_multiply(features.dtype)
    )


@functools.cache
def can_multiply(dtype: torch.dtype) -> bool:
    """Whether there are kernels, and features of that type are theirs: float16 wants a processor that multiplies it."""
    library = rows_library()
    return library is not None and bool(library.genie_has_kind(KINDS[dtype]))


def are_usable_for_heads(features: Tensor, head_dim: int, value_dim: int) -> bool:
    """The same of those for attention, which take heads of any size."""
    return are_usable(features) and transformer_library(head_dim, value_dim) is not None


def add_norm(features: Tensor, addend: Tensor | None, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """``features + addend``, and the LayerNorm of that, (..., D) each. Without an addend the features themselves."""
    features = features.contiguous()
    addend = None if addend is None else addend.contiguous()
    sums, normed = features if addend is None else torch.empty_like(features), torch.empty_like(features)
    weights, own = norm_weights(norm, features.dtype)
    rows_library().genie_add_norm(
        KINDS[features.dtype],
        sums.data_ptr(),
        normed.data_ptr(),
        features.data_ptr(),
        None if addend is None else addend.data_ptr(),
        own,
        features.numel() // features.shape[-1],
        features.shape[-1],
        torch.get_num_threads(),
    )
    del weights
    return sums, normed


def gelu_(features: Tensor) -> Tensor:
    """Tanh-GELU of contiguous (..., D), in place."""
    assert features.is_contiguous()
    rows_library().genie_gelu(KINDS[features.dtype], features.data_ptr(), features.numel(), torch.get_num_threads())
    return features


def draw(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """See ``models.maskgit.draw``."""
    logits, uniforms = logits.contiguous(), uniforms.float().contiguous()
    tokens, log_shares = torch.empty(uniforms.shape, dtype=torch.int64), torch.empty(uniforms.shape)
    rows_library().genie_draw(
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


def attend_in_space(projected: Tensor, heads: int, query_norm: nn.LayerNorm, key_norm: nn.LayerNorm) -> Tensor:
    """Attention within frames, QK-norm included.

    Args:
        projected: (..., N, heads * (head_dim + head_dim + value_dim)): queries, keys, values of each token.
        heads: Of each.
        query_norm: Over a head's queries.
        key_norm: Over a head's keys.

    Returns:
        (..., N, heads * value_dim).
    """
    projected = projected.contiguous()
    places, width = projected.shape[-2:]
    head_dim = query_norm.normalized_shape[0]
    value_dim = width // heads - 2 * head_dim
    mixed = projected.new_empty(*projected.shape[:-1], heads * value_dim)
    (weights, query), (more, key) = (norm_weights(norm, projected.dtype) for norm in (query_norm, key_norm))
    transformer_library(head_dim, value_dim).genie_attend_in_space(
        KINDS[projected.dtype],
        mixed.data_ptr(),
        projected.data_ptr(),
        query,
        key,
        projected.numel() // (places * width),
        places,
        heads,
        torch.get_num_threads(),
    )
    del weights, more
    return mixed


def attend_in_time(
    projected: Tensor,
    slots: tuple[Tensor, Tensor],
    where: Tensor,
    bias: Tensor,
    norms: tuple[nn.LayerNorm, nn.LayerNorm],
    outputs: int,
) -> Tensor:
    """Write new frames' keys and values into slots, and attend to these; QK-norm included.

    Args:
        projected: (F, B, N, heads * (head_dim + head_dim + value_dim)).
        slots: Keys (B, N, heads, S, head_dim) and values (B, N, heads, S, value_dim), changed in place.
        where: (F, B) int64, the frames' own slots.
        bias: (B or 1, heads, F, S), added to the scores.
        norms: Over a head's queries, and over its keys.
        outputs: How many of the last frames to return.

    Returns:
        (outputs, B, N, heads * value_dim).
    """
    keys, values = slots
    assert keys.is_contiguous()
    assert values.is_contiguous()
    projected, bias, where = projected.contiguous(), bias.contiguous(), where.contiguous()
    frames, batch, places, _ = projected.shape
    heads, count, head_dim, value_dim = *keys.shape[2:], values.shape[-1]
    mixed = projected.new_empty(outputs, batch, places, heads * value_dim)
    (weights, query), (more, key) = (norm_weights(norm, projected.dtype) for norm in norms)
    transformer_library(head_dim, value_dim).genie_attend_in_time(
        KINDS[projected.dtype],
        mixed.data_ptr(),
        projected.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        where.data_ptr(),
        bias.data_ptr(),
        query,
        key,
        Ring(frames, batch, places, heads, count, outputs, batch, len(bias)),
        torch.get_num_threads(),
    )
    del weights, more
    return mixed


def pack_weights(
    weight: Tensor, bias: Tensor | None, dtype: torch.dtype, library: Any
) -> tuple[PackedWeights, list[Tensor]]:
    """A linear layer's weights (outputs, inputs) as matmul.h wants them, and the tensors that have to outlive them."""
    lanes, step, (outputs, inputs) = library.genie_lanes(), 4 // dtype.itemsize, weight.shape
    spare = -outputs % lanes
    weights = F.pad(weight.detach().to(dtype), (0, 0, 0, spare))
    panels = [
        rearrange(panel, "(v l) (i s) -> (i v l s)", l=lanes, s=step)
        for panel in weights.split(lanes * library.genie_panel())
    ]
    numbers = torch.zeros(outputs) if bias is None else bias.detach().to(dtype).float()
    kept = [torch.cat(panels), F.pad(numbers, (0, spare)).contiguous()]
    return PackedWeights(kept[0].data_ptr(), kept[1].data_ptr(), inputs, outputs), kept


def multiply(features: Tensor, weight: Tensor, bias: Tensor | None, library: Any) -> Tensor:
    """``F.linear`` of features (rows, inputs), for tests of what a step is made of."""
    packed, kept = pack_weights(weight, bias, features.dtype, library)
    out = features.new_full((len(features), len(weight)), float("nan"))  # what is not written is no stale right answer
    _multiply_into(out, features, packed, library)
    del kept
    return out


def _multiply_into(out: Tensor, features: Tensor, packed: PackedWeights, library: Any) -> None:
    """(..., outputs), from (..., inputs)."""
    rows = out.numel() // packed.outputs
    if features.dtype == torch.bfloat16:
        features = F.pad(features.flatten(0, -2), (0, 0, 0, SPARE_ROWS))
    features = features.contiguous()
    library.genie_multiply(
        KINDS[features.dtype], out.data_ptr(), features.data_ptr(), packed, rows, torch.get_num_threads()
    )


class Product:
    """``F.linear`` with weights that are packed once, and anew where they have changed.

    A row of the result hangs on nothing but that row. Copies pack for themselves.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._packed: tuple[PackedWeights, list[Tensor]] | None = None

    def __reduce__(self) -> tuple[type, tuple]:
        """Weights are known by where they lie in memory."""
        return type(self), ()

    @staticmethod
    def takes(features: Tensor, weight: Tensor) -> bool:
        """Whether it multiplies these: ``are_usable``, and the weights are frozen.

        Others may change unnoticed: PyTorch's fused optimizers leave a parameter's version as it is.
        """
        return not weight.requires_grad and are_usable(features)

    def __call__(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(..., inputs) to (..., outputs), where ``takes`` says yes.

        Args:
            features: (..., inputs).
            weight: (outputs, inputs), or of a convolution (outputs, channels, height, width), whose inputs are then
                ordered as (height, width, channels).
            bias: (outputs,).
        """
        kept = [weight] if bias is None else [weight, bias]
        state = (features.dtype, *((each.data_ptr(), each._version) for each in kept))
        if self._packed is None or state != self._state:
            flat = weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)
            self._packed, self._state = pack_weights(flat, bias, features.dtype, rows_library()), state
        held = self._packed  # another thread may pack anew meanwhile
        packed = held[0]
        out = features.new_empty(*features.shape[:-1], packed.outputs)
        _multiply_into(out, features, packed, rows_library())
        return out


def norm_weights(norm: nn.LayerNorm, dtype: torch.dtype) -> tuple[list[Tensor], NormWeights]:
    """The weights, rounded as the features are, which have to outlive the call, and where they are."""
    weights = [weight.detach().to(dtype).float() for weight in (norm.weight, norm.bias)]
    return weights, NormWeights(*(weight.data_ptr() for weight in weights), norm.eps)


@functools.cache
def rows_library() -> Any:
    """rows.cpp, or None."""
    library = _load_multiplying("rows")
    if library is not None:
        _declare(library.genie_add_norm, [c_void_p] * 4 + [POINTER(NormWeights), c_int64, c_int64, c_int])
        _declare(library.genie_gelu, [c_void_p, c_int64, c_int])
        _declare(library.genie_draw, [c_void_p] * 4 + [c_float, c_int64, c_int64, c_int])
    return library


@functools.cache
def transformer_library(head_dim: int, value_dim: int, *definitions: str) -> Any:
    """transformer.cpp for heads of that many features, or None; with other macros, ``NAME=value``, too."""
    library = _load_multiplying("transformer", f"HEAD_DIM={head_dim}", f"VALUE_DIM={value_dim}", *definitions)
    if library is not None:
        norm = POINTER(NormWeights)
        _declare(library.genie_attend_in_space, [c_void_p] * 2 + [norm] * 2 + [c_int64] * 3 + [c_int])
        _declare(library.genie_attend_in_time, [c_void_p] * 6 + [norm] * 2 + [POINTER(Ring), c_int])
        _declare(library.genie_step, [c_void_p] * 7 + [c_int])
    return library


def _load_multiplying(name: str, *definitions: str) -> Any:
    """A library with ``genie_multiply``, which does without the processor's tiles where they cannot be used."""
    library = load_library(name, *definitions)
    if library is not None:
        library.genie_has_tiles.restype = library.genie_may_use_tiles.restype = c_int
        _declare(library.genie_multiply, [c_void_p] * 2 + [POINTER(PackedWeights), c_int64, c_int])
        if library.genie_has_tiles() and not (library.genie_may_use_tiles() and tiles_are_right(library)):
            logger.warning("The processor's tiles (AMX) cannot be used: bfloat16 is multiplied without them, slower.")
            return _load_multiplying(name, *definitions, "NO_TILES=1")
    return library


def tiles_are_right(library: Any) -> bool:
    """Whether whole numbers, which bfloat16 holds exactly, are multiplied without an error."""
    generator = torch.Generator().manual_seed(0)
    features, weight = (torch.randint(-2, 3, (rows, 64), generator=generator).float() for rows in (75, 100))
    product = multiply(features.bfloat16(), weight.bfloat16(), None, library)
    return torch.equal(product, (features @ weight.T).bfloat16())


def _declare(function: Any, arguments: list[Any]) -> None:
    """All take the kind first, and none returns anything."""
    function.argtypes, function.restype = [c_int, *arguments], None
