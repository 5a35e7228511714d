"""A training step on tensors without data: its peak of memory and its operations, in seconds and on any machine."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from genie_gym.nn import attention
from genie_gym.nn.attention import FEW_KEYS, multiply_out

_ATEN = torch.ops.aten
FUSED_BYTES = 16
"""A GPU's fused attention needs the features of a head to fill a multiple of this."""


class StepCost(NamedTuple):
    """What a forward and a backward pass take."""

    activations: int
    """largest number of bytes alive at once, beside weights and gradients"""
    operations: int
    """floating-point operations of matrix products, 2 m k n each"""


def run_on_meta(loss: Callable[[], Tensor], held: Iterable[Tensor], hidden: int, is_fused: bool = True) -> StepCost:
    """Run a loss and its backward pass on the meta device.

    Args:
        loss: Function that returns the loss; all tensors in it are on the meta device.
        held: Tensors that are alive before: weights, gradients, buffers. They are not counted.
        hidden: Number of hidden tokens of the dynamics' batch.
        is_fused: Whether attention runs in a GPU's fused kernels, where they take its sizes; else as on a CPU.
    """
    meter = _Meter(held, hidden)
    with _attention_kernels(is_fused), meter:
        loss().backward()
    return StepCost(meter.peak, meter.operations)


class _Meter(TorchDispatchMode):
    """Counts operations and the bytes of all tensors alive, and answers what tensors without data cannot."""

    def __init__(self, held: Iterable[Tensor], hidden: int) -> None:
        super().__init__()
        self.peak = self.operations = self._live = 0
        self._hidden = hidden
        self._seen = WeakIdKeyDictionary()
        for tensor in held:
            self._seen[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _ATEN._local_scalar_dense.default:  # checks of ids pass, and codebooks are initialised
            return True if args[0].dtype is torch.bool else 0
        if func is _ATEN.nonzero.default:  # in the dynamics' loss, of the mask
            out = args[0].new_empty(self._hidden, args[0].ndim, dtype=torch.int64)
        elif func is _ATEN.bincount.default:
            out = args[0].new_empty(kwargs["minlength"] if "minlength" in kwargs else args[2])
        else:
            out = func(*args, **kwargs)
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += count(*args, **kwargs, out_val=out)
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._count(each)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:  # a view, or changed in place
            return
        self._seen[storage] = None
        size = storage.nbytes()
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._live -= size


@contextmanager
def _attention_kernels(is_fused: bool) -> Iterator[None]:
    """Let attention choose its kernel as on a GPU, or as on a CPU; the meta device has none of its own."""
    original = attention.scaled_dot_products

    def choose(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        if is_fused and keys.shape[-2] > FEW_KEYS and takes_fused(values.shape[-1], values.element_size()):
            return _ATEN._scaled_dot_product_efficient_attention(queries, keys, values, bias, True)[0]
        return multiply_out(queries, keys, values, bias)

    attention.scaled_dot_products = choose
    try:
        yield
    finally:
        attention.scaled_dot_products = original


def takes_fused(value_dim: int, element_bytes: int) -> bool:
    """Return whether a GPU's fused attention takes values of this many features per head."""
    return value_dim * element_bytes % FUSED_BYTES == 0
