"""The compiled libraries, their C structures, and packing weights for them."""

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
from genie_gym.serving.threads import kernel_threads

KINDS = {torch.float32: 0, torch.bfloat16: 1}
"""Number that stands for each type in the C++ code, its ``kind``."""
_SPARE_ROWS = 31
"""Number of rows behind the last one that a product by tiles may read, 32 rows at a time; SPARE_ROWS in matmul.h."""

logger = logging.getLogger(__name__)


class NormWeights(ctypes.Structure):
    """Weights of a LayerNorm, as in rows.h."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("epsilon", c_float)]


class PackedWeights(ctypes.Structure):
    """Weights of a linear layer, as in matmul.h."""

    _fields_ = [("panels", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64)]


class Grids(ctypes.Structure):
    """Sizes of a convolution's input, as in matmul.h."""

    _fields_ = [(name, c_int64) for name in ("number", "rows", "columns", "features")]


class CacheSizes(ctypes.Structure):
    """Sizes of an attention to cached frames, as in attention.h."""

    _fields_ = [
        (name, c_int64)
        for name in ("frames", "batch", "positions", "heads", "cache_frames", "outputs", "index_stride", "bias_rows")
    ]


@functools.cache
def rows_library() -> Any:
    """Return the compiled rows.cpp, or None if this machine has no kernels."""
    library = _load_multiplying("rows")
    if library is not None:
        _declare(library.genie_add_norm, [c_void_p] * 4 + [POINTER(NormWeights), c_int64, c_int64, c_int])
        _declare(library.genie_gelu, [c_void_p, c_int64, c_int])
        _declare(library.genie_convolve, [c_void_p] * 2 + [POINTER(PackedWeights), POINTER(Grids), c_int])
        _declare(library.genie_draw, [c_void_p] * 4 + [c_float, c_int64, c_int64, c_int])
    return library


@functools.cache
def transformer_library(head_dim: int, value_dim: int, *definitions: str) -> Any:
    """Return transformer.cpp compiled for a head size, or None if this machine has no kernels.

    Args:
        head_dim: Features per head of queries and keys.
        value_dim: Features per head of values.
        definitions: Further macros, ``NAME=value``.
    """
    library = _load_multiplying("transformer", f"HEAD_DIM={head_dim}", f"VALUE_DIM={value_dim}", *definitions)
    if library is not None:
        norm = POINTER(NormWeights)
        _declare(library.genie_attend_in_space, [c_void_p] * 2 + [norm] * 2 + [c_int64] * 3 + [c_int])
        _declare(library.genie_attend_in_time, [c_void_p] * 6 + [norm] * 2 + [POINTER(CacheSizes), c_int])
        _declare(library.genie_step, [c_void_p] * 7 + [c_int])
    return library


def _load_multiplying(name: str, *definitions: str) -> Any:
    """Load a library with ``genie_multiply``; it is compiled without AMX tiles if this process cannot use them."""
    library = load_library(name, *definitions)
    if library is not None:
        library.genie_has_tiles.restype = library.genie_may_use_tiles.restype = c_int
        library.genie_set_helpers.argtypes = [c_void_p]
        library.genie_set_helpers(_find_helpers())
        _declare(library.genie_multiply, [c_void_p] * 2 + [POINTER(PackedWeights), c_int64, c_int])
        if library.genie_has_tiles() and not (library.genie_may_use_tiles() and tiles_are_right(library)):
            logger.warning("The processor's tiles (AMX) cannot be used: bfloat16 is multiplied without them, slower.")
            return _load_multiplying(name, *definitions, "NO_TILES=1")
    return library


@functools.cache
def _find_helpers() -> int:
    """Return the address of the threads that help this process, which belong to the library for rows."""
    library = load_library("rows")
    assert library is not None
    library.genie_helpers.restype = c_void_p
    return int(library.genie_helpers())


def _declare(function: Any, arguments: list[Any]) -> None:
    """Declare the arguments of a C function that takes the kind first and returns nothing."""
    function.argtypes, function.restype = [c_int, *arguments], None


def pack_weights(
    weight: Tensor, bias: Tensor | None, dtype: torch.dtype, library: Any
) -> tuple[PackedWeights, list[Tensor]]:
    """Pack the weights (outputs, inputs) of a linear layer into the panels that matmul.h multiplies.

    Returns:
        Pointers for the kernels, and the tensors that have to outlive them.
    """
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
    """Compute ``F.linear`` of features (rows, inputs) by a library's kernel, packing the weights anew."""
    packed, kept = pack_weights(weight, bias, features.dtype, library)
    out = features.new_full((len(features), len(weight)), float("nan"))  # shows entries that the kernel does not write
    multiply_into(out, features, packed, library)
    del kept  # not before: ``packed`` points into these tensors
    return out


def tiles_are_right(library: Any) -> bool:
    """Return whether a library multiplies whole numbers, which bfloat16 holds exactly, without an error."""
    generator = torch.Generator().manual_seed(0)
    features, weight = (torch.randint(-2, 3, (rows, 64), generator=generator).float() for rows in (75, 100))
    product = multiply(features.bfloat16(), weight.bfloat16(), None, library)
    return torch.equal(product, (features @ weight.T).bfloat16())


def multiply_into(out: Tensor, features: Tensor, packed: PackedWeights, library: Any) -> None:
    """Multiply features (..., inputs) by packed weights, and write the result to ``out`` (..., outputs)."""
    rows = out.numel() // packed.outputs
    if features.dtype == torch.bfloat16 and library.genie_has_tiles() and rows % (_SPARE_ROWS + 1):
        features = F.pad(features.flatten(0, -2), (0, 0, 0, _SPARE_ROWS))
    features = features.contiguous()
    library.genie_multiply(KINDS[features.dtype], out.data_ptr(), features.data_ptr(), packed, rows, kernel_threads())


def norm_weights(norm: nn.LayerNorm, dtype: torch.dtype) -> tuple[list[Tensor], NormWeights]:
    """Round a LayerNorm's weights to a type: tensors that have to outlive the kernel's call, and pointers to them."""
    weights = [weight.detach().to(dtype).float() for weight in (norm.weight, norm.bias)]
    return weights, NormWeights(*(weight.data_ptr() for weight in weights), norm.eps)
