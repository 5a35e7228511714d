"""Convolutions of 3 x 3 by a quarter of the products, forward and backward: winograd.cpp as functions of tensors."""

import ctypes
import functools
from ctypes import c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from genie_gym.serving.build import load_library

FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
"""G of F(4 x 4, 3 x 3) in arXiv 1509.09308."""
LEAST_PIXELS = 1024
"""Of all pictures together: with fewer, transforming the weights takes as long as it saves."""


class Pictures(ctypes.Structure):
    """Sizes, as winograd.cpp has them."""

    _fields_ = [(name, c_int64) for name in ("number", "rows", "columns", "inputs", "outputs")]


def are_usable(pictures: Tensor, weight: Tensor) -> bool:
    """Whether ``convolve`` takes these: float32 on a CPU, many pixels, channels last and as many as fill vectors."""
    return (
        pictures.device.type == "cpu"
        and pictures.dtype == weight.dtype == torch.float32
        and pictures.is_contiguous(memory_format=torch.channels_last)
        and len(pictures) * pictures.shape[2] * pictures.shape[3] >= LEAST_PIXELS
        and not torch.compiler.is_compiling()
        and (library := winograd_library()) is not None
        and all(channels % library.genie_lanes() == 0 for channels in weight.shape[:2])
    )


def convolve(pictures: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.conv2d`` with a border of one zero, rounded otherwise.

    Args:
        pictures: (M, inputs, H, W), channels last.
        weight: (outputs, inputs, 3, 3).
        bias: (outputs,), or none.

    Returns:
        (M, outputs, H, W), channels last.
    """
    return _Convolution.apply(pictures, weight, bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pictures: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(pictures, weight)
        return _convolve(pictures, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        pictures, weight = ctx.saved_tensors
        gradients = gradients.contiguous(memory_format=torch.channels_last)
        wants = ctx.needs_input_grad
        return (
            _convolve(gradients, weight.flip(2, 3).transpose(0, 1), None) if wants[0] else None,
            _gather_weights(pictures, gradients) if wants[1] else None,
            gradients.sum(dim=(0, 2, 3)) if wants[2] else None,
        )


def _convolve(pictures: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    sizes, library = _sizes(pictures, len(weight)), winograd_library()
    points = torch.einsum("ai, bj, oxij -> abxo", _filter(), _filter(), weight.detach())
    panels = points.split(library.genie_wide() * library.genie_lanes(), dim=-1)
    packed = torch.cat([panel.flatten() for panel in panels])
    shape = (len(pictures), len(weight), *pictures.shape[2:])
    out = torch.empty(shape, memory_format=torch.channels_last)
    bias = None if bias is None else bias.detach().contiguous()
    library.genie_convolve(
        out.data_ptr(),
        pictures.data_ptr(),
        packed.data_ptr(),
        None if bias is None else bias.data_ptr(),
        sizes,
        torch.get_num_threads(),
    )
    return out


def _gather_weights(pictures: Tensor, gradients: Tensor) -> Tensor:
    """The gradient of the weights."""
    sizes, threads = _sizes(pictures, gradients.shape[1]), torch.get_num_threads()
    points = torch.zeros(threads, 6, 6, sizes.inputs, sizes.outputs)
    winograd_library().genie_convolve_weights(
        points.data_ptr(), pictures.data_ptr(), gradients.data_ptr(), sizes, threads
    )
    return torch.einsum("ai, bj, abxo -> oxij", _filter(), _filter(), points.sum(dim=0))


def _sizes(pictures: Tensor, outputs: int) -> Pictures:
    number, inputs, rows, columns = pictures.shape
    return Pictures(number, rows, columns, inputs, outputs)


@functools.cache
def _filter() -> Tensor:
    return torch.tensor(FILTER)


@functools.cache
def winograd_library() -> Any:
    """winograd.cpp, or None."""
    library = load_library("winograd")
    if library is not None:
        library.genie_convolve.argtypes = [c_void_p] * 4 + [Pictures, c_int]
        library.genie_convolve_weights.argtypes = [c_void_p] * 3 + [Pictures, c_int]
        library.genie_convolve.restype = library.genie_convolve_weights.restype = None
    return library
