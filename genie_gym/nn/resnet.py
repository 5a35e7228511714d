"""ResNet-18 (arXiv 1512.03385), an image network of 11 million parameters."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


class ResNet18(nn.Module):
    """Map pictures (M, 3, H, W) to (M, out): a 7 x 7 convolution, eight residual blocks, mean over the picture, linear.

    Args:
        out: Number of outputs.
        width: Channels of the first stage; later stages have 2, 4 and 8 times as many. The paper's has 64.
    """

    def __init__(self, out: int, width: int = 64) -> None:
        super().__init__()
        self.stem = _convolution(3, width, 7, stride=2)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential()
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            self.blocks.extend([_Block(before, after, stride=1 if number == 0 else 2), _Block(after, after)])
        self.out = nn.Linear(8 * width, out)

    def forward(self, pixels: Tensor) -> Tensor:
        features = F.max_pool2d(F.relu(self.stem(pixels)), 3, stride=2, padding=1)  # (M, width, H / 4, W / 4)
        features = self.blocks(features)  # (M, 8 width, H / 32, W / 32)
        return self.out(features.mean(dim=(2, 3)))


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: (M, before, H, W) to (M, after, H / stride, W / stride)."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.second = _convolution(before, after, 3, stride), _convolution(after, after, 3)
        changes = before != after or stride > 1
        self.shortcut = _convolution(before, after, 1, stride) if changes else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.shortcut(features) + self.second(F.relu(self.first(features))))


def _convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(after))
