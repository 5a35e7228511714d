"""Muon: momentum, orthogonalised, for matrices (Keller Jordan 2024, https://kellerjordan.github.io/posts/muon)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration takes singular values to about 1."""
ITERATIONS = 5
MOMENTUM = 0.95
UPDATE_RMS = 2 / 3
"""Of a matrix's update, in learning rates: AdamW's is near 1 at first and smaller later."""


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with ``orthogonal``, whose matrices move by their orthogonalised momentum.

    ``torch.optim.Muon`` iterates in bfloat16, which CPUs without such instructions do at a hundredth of their speed;
    here it is float32.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **options: Any) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; gradients of matrices are used up."""
        assert closure is None, "no line search"
        for group in self.param_groups:
            for matrix in group["params"] if group["orthogonal"] else ():
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group["lr"], group["weight_decay"])
                    matrix.grad = None  # AdamW passes over it
        super().step()
        return None

    def _move(self, matrix: Tensor, gradient: Tensor, rate: float, weight_decay: float) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
            state["step"] = torch.zeros(())  # which AdamW looks for when a run goes on
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonalize(gradient.lerp(momentum, MOMENTUM))  # Nesterov's
        matrix.mul_(1 - rate * weight_decay)
        matrix.add_(update, alpha=-rate * UPDATE_RMS * max(matrix.shape) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values of 0.7 to 1.2 where they were not tiny."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    result = matrix.float().T if is_tall else matrix.float()
    result = result / result.norm().clamp(min=1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = result @ result.T
        result = torch.addmm(result, torch.addmm(square, square, square, beta=third, alpha=fifth), result, beta=first)
    return result.T if is_tall else result
