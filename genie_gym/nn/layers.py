"""Layers that keep their weights as stored and compute in the precision of their input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.nn.ranks import count_ranks, mean_over_ranks


class Linear(nn.Linear):
    """``nn.Linear`` that casts its weights to the input's precision."""

    def forward(self, features: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(features.dtype)
        return F.linear(features, self.weight.to(features.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that casts its weights to the input's precision."""

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.weight.to(features.dtype), self.bias.to(features.dtype)
        return F.layer_norm(features, self.normalized_shape, weight, bias, self.eps)


class Embedding(nn.Embedding):
    """``nn.Embedding`` with the small normal initialisation that transformers want."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` without weights whose statistics are those of all ranks: (M, width) to (M, width).

    PyTorch's ``SyncBatchNorm`` needs a GPU.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or count_ranks() == 1:
            return super().forward(features)
        mean = mean_over_ranks(features.mean(dim=0))
        centred = features - mean
        variance = mean_over_ranks(centred.square().mean(dim=0))
        with torch.no_grad():
            count = len(features) * count_ranks()
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return centred * (variance + self.eps).rsqrt()


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` that casts its weights to the input's precision."""

    def forward(self, pixels: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(pixels.dtype)
        return self._conv_forward(pixels, self.weight.to(pixels.dtype), bias)


class SquareConvolution(Conv2d):
    """A 3 x 3 convolution that keeps the picture's size: (M, in, H, W) to (M, out, H, W), zero padding."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)


class GridConvolution(Conv2d):
    """A 3 x 3 convolution over each frame's grid of tokens: (T, B, N, in) to (T, B, N, out).

    Args:
        width: Input features.
        out: Output features.
        grid: Rows and columns of tokens; N is their product.
    """

    def __init__(self, width: int, out: int, grid: tuple[int, int]) -> None:
        super().__init__(width, out, 3, padding=1)
        self.grid = grid

    def forward(self, features: Tensor) -> Tensor:
        # (T, B, N, in) -> (T B, in, rows, columns); the permutation makes it channels-last in memory
        pictures = features.reshape(-1, *self.grid, features.shape[-1]).permute(0, 3, 1, 2)
        out = super().forward(pictures).permute(0, 2, 3, 1)
        return out.reshape(*features.shape[:-1], out.shape[-1])


def zero_(layer: Linear) -> Linear:
    """Set the weights of a layer to zero, so that its branch adds nothing at the start, and return it."""
    with torch.no_grad():
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
