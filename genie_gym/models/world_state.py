"""The state of rows that a world plays."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from genie_gym.configs import SamplingConfig
from genie_gym.nn.attention import KVCache
from genie_gym.nn.frame_cache import FrameCache


class WorldState(NamedTuple):
    """The state of B rows: opaque, and used up by the next step; see ``GenieWorldModel.fork``."""

    dynamics: FrameCache
    """KV cache of the dynamics, for the frames before the present one."""
    decoder: FrameCache
    """KV cache of the tokenizer's decoder, up to the present frame; empty if it decodes each frame alone."""
    frames: Tensor | None
    """(B, C, H, W) present frames of a decoder that needs all frames in order, else None: decoded by ``show``."""
    tokens: Tensor
    """(B, 1, N) tokens of the present frame."""
    previous_actions: Tensor
    """(B, 1) latent action that led to the present frame."""
    seeds: tuple[int, ...]
    """One seed per row."""
    ages: tuple[int, ...]
    """Number of frames that each row has generated; with the seed it decides the next frame's random numbers."""
    sampling: SamplingConfig
    """How the next frames are sampled."""
    version: int
    """Version of the caches that this state belongs to; an older state's content is overwritten."""


class StepBack(NamedTuple):
    """The few tensors that ``GenieWorldModel.undo`` needs to take a step back: opaque, much smaller than a fork."""

    dynamics: list[KVCache | None]
    decoder: list[KVCache | None]
    frames: Tensor | None
    tokens: Tensor
    previous_actions: Tensor
    ages: tuple[int, ...]


def put_rows(old: tuple[int, ...], rows: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of all rows with those of some rows replaced."""
    values = list(old)
    for row, value in zip(rows, new, strict=True):
        values[row] = value
    return tuple(values)
