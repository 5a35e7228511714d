"""Layers whose weights stay as they are stored and compute in the precision of what they are given."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.serving import kernels


class Linear(nn.Linear):
    """``nn.Linear`` that casts its weights to the input's precision."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.product = kernels.Product()

    def forward(self, features: Tensor) -> Tensor:
        if self.product.takes(features, self.weight):
            return self.product(features, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.to(features.dtype)
        return F.linear(features, self.weight.to(features.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that casts its weights to the input's precision."""

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.weight.to(features.dtype), self.bias.to(features.dtype)
        return F.layer_norm(features, self.normalized_shape, weight, bias, self.eps)


class Embedding(nn.Embedding):
    """``nn.Embedding`` with the small normal start that transformers want."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` that casts its weights to the input's precision."""

    def forward(self, pixels: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(pixels.dtype)
        return self._conv_forward(pixels, self.weight.to(pixels.dtype), bias)


class SquareConvolution(Conv2d):
    """A 3 x 3 convolution with zero padding that keeps height and width: (M, in, H, W) to (M, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)


class GridConvolution(Conv2d):
    """A 3 x 3 convolution over a grid of tokens: (T, B, N, in) to (T, B, N, out), frame by frame.

    Args:
        width: Features in.
        out: Features out.
        grid: Rows and columns of tokens; N is their product.
    """

    def __init__(self, width: int, out: int, grid: tuple[int, int]) -> None:
        super().__init__(width, out, 3, padding=1)
        self.grid, self.product = grid, kernels.Product()

    def forward(self, features: Tensor) -> Tensor:
        if self.product.takes(features, self.weight):
            return self.product(self._neighbours(features), self.weight, self.bias)
        pictures = features.reshape(-1, *self.grid, features.shape[-1]).permute(0, 3, 1, 2)  # channels last
        seen = super().forward(pictures).permute(0, 2, 3, 1)
        return seen.reshape(*features.shape[:-1], seen.shape[-1])

    def _neighbours(self, features: Tensor) -> Tensor:
        """(..., N, in) -> (..., N, 9 in): each token's square of three by three, row by row, zeros around the grid."""
        framed = F.pad(features.unflatten(-2, self.grid), (0, 0, 1, 1, 1, 1))
        squares = framed.unfold(-3, 3, 1).unfold(-3, 3, 1)  # (..., rows, columns, in, 3, 3)
        return squares.movedim(-3, -1).flatten(-3).flatten(-3, -2)


def zero_(layer: Linear) -> Linear:
    """The same layer with an output of zero, for branches that should start silent."""
    with torch.no_grad():
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
