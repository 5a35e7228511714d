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


def require_latest(state: WorldState) -> None:
    """Raise a ValueError unless a state is the latest one of its rows."""
    if state.version != state.dynamics.version:
        raise ValueError(
            f"state must be the latest of its rows, got version {state.version} of {state.dynamics.version}: "
            "fork a state to step it more than once"
        )


def put_rows(old: tuple[int, ...], rows: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of all rows with those of some rows replaced."""
    values = list(old)
    for row, value in zip(rows, new, strict=True):
        values[row] = value
    return tuple(values)


def take_row(state: WorldState, row: int) -> WorldState:
    """Copy one row of a state into new memory."""
    return state._replace(
        dynamics=state.dynamics.take(row),
        decoder=state.decoder.take(row),
        frames=None if state.frames is None else state.frames[row : row + 1],
        tokens=state.tokens[row : row + 1],
        previous_actions=state.previous_actions[row : row + 1],
        seeds=state.seeds[row : row + 1],
        ages=state.ages[row : row + 1],
    )
