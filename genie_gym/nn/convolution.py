"""Small convolutional networks over frames: two encoders, and a U-Net steered by a vector."""

import itertools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.checks import require
from genie_gym.nn.layers import Conv2d, Linear, SquareConvolution
from genie_gym.nn.patches import pad_frames


class StridedEncoder(nn.Module):
    """Encode pixels (M, channels, H, W) as vectors (M, out): four convolutions of stride 2, then a linear layer."""

    def __init__(self, channels: int, width: int, out: int, size: tuple[int, int]) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 4 * width]
        self.layers = nn.ModuleList(
            Conv2d(before, after, 4, stride=2, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, after) for after in widths[1:])
        self.out = Linear(4 * width * (size[0] // 16) * (size[1] // 16), out)

    def forward(self, pixels: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            pixels = F.relu(_norm(norm, layer(pixels)))  # halves H and W
        return self.out(pixels.flatten(1))  # (M, 4 width, H / 16, W / 16) -> (M, out)


class ImpalaEncoder(nn.Module):
    """Encode pixels (M, channels, H, W) as vectors (M, out) by IMPALA's residual stages (arXiv 1802.01561).

    Each stage is a convolution, a max-pooling that halves H and W, and two residual blocks; Procgen's baselines use the
    widths 16, 32, 32 and 256 output features.

    Args:
        channels: Channels of the pixels.
        widths: Channels of each stage.
        out: Number of output features.
        size: Height and width in pixels.
        patch_size: Side of the patches that replace the first stage's convolution and pooling; 1 for no patches.

    Raises:
        ValueError: If patches do not tile the picture.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], out: int, size: tuple[int, int], patch_size: int = 1
    ) -> None:
        super().__init__()
        if any(side % patch_size for side in size):
            raise ValueError(f"patch_size must divide {size}, got {patch_size}")
        self.stages = nn.ModuleList(
            ImpalaStage(before, after, patch_size if number == 0 else 1)
            for number, (before, after) in enumerate(itertools.pairwise([channels, *widths]))
        )
        first = 2 if patch_size == 1 else patch_size
        rows, columns = (-(-side // (first * 2 ** (len(widths) - 1))) for side in size)
        self.out = Linear(widths[-1] * rows * columns, out)

    def forward(self, pixels: Tensor) -> Tensor:
        for stage in self.stages:
            pixels = stage(pixels)  # (M, before, H, W) -> (M, after, H / 2, W / 2)
        return F.relu(self.out(F.relu(pixels).flatten(1)))  # (M, after, rows, columns) -> (M, out)


class CompactEncoder(nn.Module):
    """Encode pixels (M, channels, H, W) as vectors (M, out): two strided convolutions, then one of IMPALA's stages.

    On stacked frames it takes a quarter of the products of an ``ImpalaEncoder`` of equal widths without patches.

    Args:
        channels: Channels of the pixels.
        widths: Channels of the two convolutions and of the stage.
        out: Number of output features.
        size: Height and width in pixels.
        dropout: Share of the stage's activations that are dropped in training.

    Raises:
        ValueError: If a side has less than four pixels.
    """

    def __init__(
        self, channels: int, widths: tuple[int, int, int], out: int, size: tuple[int, int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        require(min(size) >= 4, "size", size, "4 pixels or more a side")
        self.dropout = nn.Dropout(dropout)
        fine, coarse, last = widths
        self.fine = Conv2d(channels, fine, 2, stride=2)
        self.coarse = Conv2d(fine, coarse, 4, stride=2, padding=1)
        self.stage = ImpalaStage(coarse, last)
        rows, columns = (-(-(side // 4) // 2) for side in size)
        self.out = Linear(last * rows * columns, out)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.coarse(F.relu(self.fine(pixels)))  # (M, channels, H, W) -> (M, coarse, H / 4, W / 4)
        features = F.relu(self.stage(features)).flatten(1)  # (M, last, H / 8, W / 8) -> (M, last H W / 64)
        return F.relu(self.out(self.dropout(features)))


class ImpalaStage(nn.Module):
    """One stage: (M, before, H, W) -> (M, after, H / 2, W / 2), rounded up; with patches H and W / patch_size."""

    def __init__(self, before: int, after: int, patch_size: int = 1) -> None:
        super().__init__()
        self.has_patches = patch_size > 1
        self.widen = (
            Conv2d(before, after, patch_size, patch_size) if self.has_patches else SquareConvolution(before, after)
        )
        self.blocks = nn.ModuleList(nn.ModuleList(SquareConvolution(after, after) for _ in range(2)) for _ in range(2))

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = self.widen(pixels)
        if not self.has_patches:
            pixels = F.max_pool2d(pixels, 3, stride=2, padding=1)
        for first, second in cast(list[tuple[SquareConvolution, SquareConvolution]], self.blocks):
            pixels = pixels + second(F.relu(first(F.relu(pixels))))
        return pixels


class SteeredUNet(nn.Module):
    """Map pixels (M, channels, H, W) and an optional vector (M, steer) to pixels (M, out, H, W).

    The vector scales and shifts the features at every coarse scale (FiLM): it can steer where things go, but has no
    room to carry a picture. Inside, sides are padded to multiples of 8.
    """

    def __init__(self, channels: int, width: int, out: int, steer: int | None) -> None:
        super().__init__()
        widths = itertools.pairwise([channels, width, 2 * width, 4 * width])
        self.down = nn.ModuleList(Conv2d(before, after, 4, stride=2, padding=1) for before, after in widths)
        self.middle = Conv2d(4 * width, 4 * width, 3, padding=1)
        self.up = nn.ModuleList(
            Conv2d(before, after, 3, padding=1)
            for before, after in ((4 * width, 8 * width), (4 * width, 4 * width), (2 * width, 4 * out))
        )
        self.steer = nn.ModuleList()
        if steer is not None:
            self.steer.extend(Linear(steer, 2 * size) for size in (4 * width, 2 * width, width))

    @torch.no_grad()
    def set_outputs(self, channel: int, value: float) -> None:
        """Let an output channel be ``value`` everywhere until it is trained."""
        last = cast(Conv2d, self.up[-1])
        assert last.bias is not None
        four = slice(4 * channel, 4 * channel + 4)  # positions that are shuffled into a square
        last.weight[four], last.bias[four] = 0.0, value

    def forward(self, pixels: Tensor, vector: Tensor | None = None) -> Tensor:
        height, width = pixels.shape[-2:]
        pixels, skips = pad_frames(pixels, 8), []
        for layer in self.down:
            pixels = F.relu(layer(pixels))  # H / 2, H / 4, H / 8
            skips.append(pixels)
        films = [None] * 3 if vector is None else [layer(vector) for layer in self.steer]
        pixels = F.relu(self.middle(_film(pixels, films[0])))  # (M, 4 width, H / 8, W / 8)
        pixels = F.relu(F.pixel_shuffle(self.up[0](pixels), 2))  # (M, 2 width, H / 4, W / 4)
        pixels = _film(torch.cat([pixels, skips[1]], dim=1), films[1], copies=2)  # (M, 4 width, H / 4, W / 4)
        pixels = F.relu(F.pixel_shuffle(self.up[1](pixels), 2))  # (M, width, H / 2, W / 2)
        pixels = _film(torch.cat([pixels, skips[0]], dim=1), films[2], copies=2)  # (M, 2 width, H / 2, W / 2)
        return F.pixel_shuffle(self.up[2](pixels), 2)[..., :height, :width]  # (M, out, H, W)


def stack_past(videos: Tensor, history: int) -> Tensor:
    """Stack the last frames before each transition, oldest first: (B, T, C, H, W) -> (B, T - 1, history C, H, W).

    Frame 0 stands in for the frames before it. Pixels are shifted from [0, 1] to [-0.5, 0.5].
    """
    length = videos.shape[1]
    first = videos[:, :1].expand(-1, history - 1, -1, -1, -1)
    padded = torch.cat([first, videos[:, :-1]], dim=1) - 0.5
    return torch.cat([padded[:, back : back + length - 1] for back in range(history)], dim=2)


def stack_transitions(videos: Tensor, history: int) -> Tensor:
    """Stack past frames, the next one and the change to it: (B, T, C, H, W) -> (B, T - 1, (history + 2) C, H, W)."""
    return torch.cat([stack_past(videos, history), videos[:, 1:] - 0.5, videos[:, 1:] - videos[:, :-1]], dim=2)


def encode_transitions(encoder: StridedEncoder, videos: Tensor, history: int, precision: torch.dtype) -> Tensor:
    """Return the encoder's output for every transition: (B, T, C, H, W) -> (B, T - 1, features)."""
    pixels = stack_transitions(videos, history).flatten(0, 1).to(precision)  # (B (T - 1), (history + 2) C, H, W)
    return encoder(pixels.contiguous(memory_format=torch.channels_last)).unflatten(0, (len(videos), -1))


def _norm(norm: nn.Module, features: Tensor) -> Tensor:
    assert isinstance(norm, nn.GroupNorm)
    weight, bias = norm.weight.to(features.dtype), norm.bias.to(features.dtype)
    return F.group_norm(features, norm.num_groups, weight, bias, norm.eps)


def _film(features: Tensor, scale_and_shift: Tensor | None, copies: int = 1) -> Tensor:
    """Scale and shift features; ``copies=2`` treats the two halves of their channels, upsampled and skipped, alike."""
    if scale_and_shift is None:
        return features
    scales_and_shifts = scale_and_shift[:, :, None, None].chunk(2, dim=1)  # (M, 2 D) -> twice (M, D, 1, 1)
    scale, shift = (each.repeat(1, copies, 1, 1) for each in scales_and_shifts)
    return features * (1 + scale) + shift
