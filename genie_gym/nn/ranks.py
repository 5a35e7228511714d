"""Sums, draws and picks over a whole batch of which each process (rank) holds some rows.

Everything here is the identity, or works on the given rows alone, outside of ``share_batch`` and with one rank. Inside,
results are those of one process that holds all rows: random numbers are drawn for the whole batch and cut, means and
counts are summed over ranks. Gradients are right if those of all ranks are averaged afterwards, as DDP and FSDP do.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import Function


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one rank computes at once."""

    first: int
    """number of the first row in the batch"""
    rows: int
    """number of rows"""
    batch: int
    """number of rows of the batch: those of all ranks, of all parts if gradients are accumulated"""
    ranks: int = 1
    """number of ranks, which hold neighbouring rows of one part"""
    rank: int = 0
    """number of this rank"""


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextlib.contextmanager
def share_batch(share: Share) -> Iterator[None]:
    """Let this process hold a share of the batch: every rank has to call the same functions in the same order."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def count_ranks() -> int:
    """Return the number of ranks that share the batch; 1 outside of ``share_batch``."""
    share = _SHARE.get()
    return 1 if share is None else share.ranks


def count_rows(rows: int) -> int:
    """Return the number of rows of the whole batch of which this process holds ``rows``, all parts included."""
    share = _SHARE.get()
    return rows if share is None else share.batch


def locate_rows(rows: int) -> slice:
    """Return which of the whole batch's rows are the ``rows`` of this process."""
    share = _SHARE.get()
    if share is None:
        return slice(0, rows)
    assert share.rows == rows, f"a share of {share.rows} rows, got {rows}"
    return slice(share.first, share.first + rows)


def draw_rows(draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int], dim: int = 0) -> Tensor:
    """Draw random numbers of a shape whose dimension ``dim`` counts rows, equal for a row on any number of ranks.

    Args:
        draw: Function from a shape to random numbers.
        shape: Shape for the rows of this process.
        dim: Dimension of the rows.
    """
    if _SHARE.get() is None:
        return draw(shape)
    own = locate_rows(shape[dim])
    whole = [*shape[:dim], count_rows(shape[dim]), *shape[dim + 1 :]]
    return draw(whole).narrow(dim, own.start, shape[dim])


class _Sum(Function):
    """A sum over ranks; its gradient is summed too, since every rank's result depends on every rank's input."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(gradient))


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of the tensors of all ranks, which carries a gradient to each."""
    return values if count_ranks() == 1 else cast(Tensor, _Sum.apply(values))


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of the tensors of all ranks: of means over equally many rows, the mean over all of them."""
    return values if count_ranks() == 1 else sum_over_ranks(values) / count_ranks()


def variance_over_ranks(values: Tensor) -> Tensor:
    """Return the unbiased variance () of the values of all ranks, without a gradient."""
    ranks = count_ranks()
    if ranks == 1:
        return values.var()
    values = values.detach()
    squares = (values - mean_over_ranks(values.mean())).square()
    return mean_over_ranks(squares.mean()) * (ranks * values.numel() / (ranks * values.numel() - 1))


def roll_rows(values: Tensor) -> Tensor:
    """Return for each row the row before it; for the first one, the last row of the last rank.

    With accumulated gradients it is the last row of this part of the batch.
    """
    share = _SHARE.get()
    if share is None or share.ranks == 1:
        return values.roll(1, dims=0)
    lasts = [torch.empty_like(values[-1:]) for _ in range(share.ranks)]
    dist.all_gather(lasts, values[-1:].contiguous())
    return torch.cat([lasts[share.rank - 1], values[:-1]])


def gather_rows(values: Tensor, dim: int = 0) -> Tensor:
    """Return the rows of all ranks, without a gradient."""
    if count_ranks() == 1:
        return values
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(count_ranks())]
    dist.all_gather(parts, values.detach().contiguous())
    return torch.cat(parts, dim=dim)


def pick_points(points: Tensor, indices: Tensor, dim: int = 0) -> Tensor:
    """Return some of all ranks' points, without a gradient, and without gathering the others.

    Args:
        points: (..., D), whose dimension ``dim`` counts rows.
        indices: (M,) int64 indices into the flattened points of all ranks, equal on every rank.
        dim: Dimension of the rows.

    Returns:
        (M, D).
    """
    share = _SHARE.get()
    if share is None or share.ranks == 1:
        return points.flatten(0, -2)[indices]
    shape, rows = list(points.shape[:-1]), points.shape[dim]
    shape[dim] = rows * share.ranks
    places = list(torch.unravel_index(indices, shape))
    is_own = places[dim] // rows == share.rank
    places[dim] = places[dim] % rows
    return sum_over_ranks(torch.where(is_own[:, None], points.detach()[tuple(places)], 0.0))


def agree_on(values: Tensor) -> Tensor:
    """Return the first rank's values, where computing the same may give other last bits on another device."""
    if count_ranks() > 1:
        values = values.contiguous()
        dist.broadcast(values, 0)
    return values
