"""Speed of a world without an environment: by KV cache, kernels and MaskGIT steps, and of labelling."""

import contextlib
import copy
import os
from collections.abc import Iterator, Sequence
from unittest import mock

import torch
from torch import Tensor

from genie_gym.bench.timing import measure
from genie_gym.models.maskgit import draw_uniforms
from genie_gym.models.uncached import generate_uncached
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import kernels, libraries, prepare
from genie_gym.serving.build import SWITCH, load_library

LABELLED_CLIPS, LABELLED_FRAMES = 32, 16
"""Size of the batch whose latent actions are inferred: clips, and frames in each."""


def cached_fps(world: GenieWorldModel, rows: int, seconds: float, maskgit_steps: int | None = None) -> float:
    """Return the frames per second of ``world.step`` after a prompt that fills the context.

    Args:
        world: World model to play.
        rows: Batch size; the frames of all rows count.
        seconds: Time for the measurement, as in ``measure``.
        maskgit_steps: MaskGIT steps per frame; the checkpoint's if None.
    """
    state, _ = world.reset(_random_videos(world, rows, world.config.context_length), range(rows), maskgit_steps)
    actions = _random_actions(world, rows, 1)[:, 0]

    def step() -> None:
        nonlocal state
        state, _ = world.step(state, actions)

    return rows / measure(step, seconds, world.device).seconds


def uncached_fps(world: GenieWorldModel, rows: int, seconds: float) -> float:
    """Return the frames per second of ``generate_uncached``, which computes the whole context in every MaskGIT step."""
    context, sampling = world.config.context_length, world.sampling()
    tokens = world.tokenizer.encode(_random_videos(world, rows, context - 1))
    actions = world.dynamics.previous_actions(_random_actions(world, rows, context - 1))
    uniforms = draw_uniforms(range(rows), [0] * rows, sampling, world.config.tokens_per_frame).to(world.device)

    def generate() -> None:
        generate_uncached(world, tokens, actions, sampling, uniforms)

    return rows / measure(generate, seconds, world.device).seconds


def fps_by_kernels(world: GenieWorldModel, rows: Sequence[int], seconds: float) -> dict[str, dict[str, float]]:
    """Return ``cached_fps`` by kernels and batch size: ``on``, ``off``, and ``no-tiles`` if the processor has AMX.

    All use the world's own precision; ``off`` is PyTorch alone, and the only entry if there are no kernels.
    """
    precision, library = str(world.dynamics.precision).removeprefix("torch."), libraries.rows_library()
    switches = ["off"]
    if kernels.can_multiply(world.dynamics.precision):
        switches = ["on", "off", "no-tiles"] if library.genie_has_tiles() else ["on", "off"]
    rates: dict[str, dict[str, float]] = {}
    for switch in switches:
        with _switch_kernels(switch):
            own = prepare(copy.deepcopy(world), precision)
            rates[switch] = {str(count): cached_fps(own, count, seconds) for count in rows}
    return rates


@contextlib.contextmanager
def _switch_kernels(value: str) -> Iterator[None]:
    """Set the kernels' environment variable within the block; the kernels are loaded anew inside and after it."""
    caches = (load_library, libraries.rows_library, libraries.transformer_library, kernels.can_multiply)
    try:
        with mock.patch.dict(os.environ, {SWITCH: value}):
            for each in caches:
                each.cache_clear()
            yield
    finally:
        for each in caches:
            each.cache_clear()


def labelling_fps(world: GenieWorldModel, seconds: float) -> float:
    """Return the frames per second of ``world.label`` on batches of 32 clips of 16 frames."""
    videos = _random_videos(world, LABELLED_CLIPS, LABELLED_FRAMES)
    return LABELLED_CLIPS * LABELLED_FRAMES / measure(lambda: world.label(videos), seconds, world.device).seconds


def _random_videos(world: GenieWorldModel, rows: int, frames: int) -> Tensor:
    return torch.rand(rows, frames, 3, world.config.height, world.config.width, device=world.device)


def _random_actions(world: GenieWorldModel, rows: int, frames: int) -> Tensor:
    return torch.randint(world.config.num_latent_actions, (rows, frames), device=world.device)
