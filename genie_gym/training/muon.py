"""The Muon optimiser: orthogonalised momentum (Keller Jordan 2024, https://kellerjordan.github.io/posts/muon)."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic polynomial whose iteration takes singular values to about 1."""
_ITERATIONS = 5
MOMENTUM = 0.95
UPDATE_RMS = 2 / 3
"""Root mean square of a matrix's update, in units of the learning rate; AdamW's is near 1 at first, then smaller."""


class Muon(torch.optim.AdamW):
    """AdamW, except for parameter groups with ``orthogonal=True``, whose matrices are updated by Muon.

    A convolution kernel counts as a matrix of (out, in x rows x columns). ``torch.optim.Muon`` always iterates in
    bfloat16, a hundred times slower on CPUs without such instructions.

    Args:
        groups: Parameter groups.
        precision: Type in which the products of Muon's iteration are computed; bfloat16 suffices where it is fast.
        **options: Options of ``AdamW``.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], precision: torch.dtype = torch.float32, **options: Any
    ) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], **options)
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters once; gradients of Muon's matrices are then None."""
        assert closure is None, "no line search"
        for group in self.param_groups:
            trained = [each for each in group["params"] if group["orthogonal"] and each.grad is not None]
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for matrix in trained:
                by_shape.setdefault(matrix.shape, []).append(matrix)
            for matrices in by_shape.values():
                self._update(matrices, group["lr"], group["weight_decay"])
            for matrix in trained:
                matrix.grad = None  # so that AdamW skips it
        return super().step()

    def _update(self, matrices: list[Tensor], rate: float, weight_decay: float) -> None:
        """Update matrices of one shape together, in a few batched products."""
        for matrix in matrices:
            state = self.state[matrix]
            if not state:
                state["momentum"] = matrix.new_zeros(matrix.shape)  # contiguous, since flattened in place
                state["step"] = torch.zeros(())  # which AdamW expects in a resumed state
            state["step"] += 1
        gradients = torch.stack([cast(Tensor, matrix.grad).flatten(1) for matrix in matrices])
        momenta = [self.state[matrix]["momentum"].flatten(1) for matrix in matrices]
        for momentum, gradient in zip(momenta, gradients, strict=True):
            momentum.lerp_(gradient, 1 - MOMENTUM)
        nesterov = gradients.lerp(torch.stack(momenta), MOMENTUM)
        updates = orthogonalize(nesterov, self.precision)
        length = rate * UPDATE_RMS * max(updates[0].shape) ** 0.5
        for matrix, update in zip(matrices, updates, strict=True):
            matrix.mul_(1 - rate * weight_decay)
            matrix.add_(update.view(matrix.shape), alpha=-length)


def orthogonalize(matrices: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Return float32 matrices (M, rows, columns) with the same singular vectors, and singular values of 0.7 to 1.2.

    Tiny singular values stay small. Products are computed in ``precision``.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    result = matrices.float().mT if is_tall else matrices.float()
    result = (result / result.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(precision)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = result @ result.mT
        mixed = torch.baddbmm(square, square, square, beta=third, alpha=fifth)
        result = torch.baddbmm(result, mixed, result, beta=first)
    return (result.mT if is_tall else result).float()
