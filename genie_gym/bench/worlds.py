"""Work to time of a world without an environment: by KV cache, engine and MaskGIT steps, and labelling."""

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch import Tensor

from genie_gym.bench.timing import Contender, Timing, compare, measure
from genie_gym.models.maskgit import draw_uniforms
from genie_gym.models.uncached import generate_uncached
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import kernels, libraries, prepare
from genie_gym.serving.build import SWITCH, load_library

LABELLED_CLIPS, LABELLED_FRAMES = 32, 16
"""Size of the batch whose latent actions are inferred: clips, and frames in each."""


def stepping(world: GenieWorldModel, rows: int, maskgit_steps: int | None = None) -> Callable[[], object]:
    """Return a function that calls ``world.step`` after a prompt that fills the context.

    Args:
        world: World model to play.
        rows: Batch size.
        maskgit_steps: MaskGIT steps per frame; the checkpoint's if None.
    """
    state, _ = world.reset(_random_videos(world, rows, world.config.context_length), range(rows), maskgit_steps)
    actions = _random_actions(world, rows, 1)[:, 0]

    def step() -> None:
        nonlocal state
        state, _ = world.step(state, actions)

    return step


def generating(world: GenieWorldModel, rows: int) -> Callable[[], object]:
    """Return a function that calls ``generate_uncached``, which computes the whole context in every MaskGIT step."""
    context, sampling = world.config.context_length, world.sampling()
    tokens = world.tokenizer.encode(_random_videos(world, rows, context - 1))
    actions = world.dynamics.previous_actions(_random_actions(world, rows, context - 1))
    uniforms = draw_uniforms(range(rows), [0] * rows, sampling, world.config.tokens_per_frame).to(world.device)
    return lambda: generate_uncached(world, tokens, actions, sampling, uniforms)


def compare_engines(
    world: GenieWorldModel, rows: int, seconds: float, matrix: Contender, with_compiler: bool
) -> dict[str, Timing]:
    """Time ``stepping`` in turn by engine and precision, and a ``matrix`` product of the same rounds.

    Engines are named ``kernels, bfloat16`` and so on: ``kernels``, ``kernels without tiles`` if the processor has AMX,
    ``PyTorch``, and with a compiler ``compiled PyTorch``, whose transformers' steps ``torch.compile`` compiles.
    """
    precisions = [str(dtype).removeprefix("torch.") for dtype in libraries.KINDS]
    contenders = {"matrix": matrix}
    for precision in precisions:
        if kernels.can_multiply(getattr(torch, precision)):
            contenders[f"kernels, {precision}"] = Contender(stepping(_copy(world, precision), rows))
        plain = _copy(world, precision, use_kernels=False)
        contenders[f"PyTorch, {precision}"] = Contender(stepping(plain, rows))
        if with_compiler:
            contenders[f"compiled PyTorch, {precision}"] = Contender(stepping(_compile(copy.deepcopy(plain)), rows))
    library = libraries.rows_library()
    if library is not None and library.genie_has_tiles():
        with _without_tiles():
            own = stepping(_copy(world, "bfloat16"), rows)
        contenders["kernels without tiles, bfloat16"] = Contender(own, _without_tiles)
    return compare(contenders, seconds, world.device)


def _copy(world: GenieWorldModel, precision: str, use_kernels: bool = True) -> GenieWorldModel:
    return prepare(copy.deepcopy(world), precision, use_kernels)


def _compile(world: GenieWorldModel) -> GenieWorldModel:
    """Compile the steps of both transformers, which are all but a few operations of a frame."""
    for transformer in (world.dynamics.transformer, world.tokenizer.decoder):
        transformer.step = torch.compile(transformer.step)  # type: ignore[method-assign]
    return world


@contextlib.contextmanager
def _without_tiles() -> Iterator[None]:
    """Use kernels without AMX tiles within the block; the kernels are loaded anew inside and after it."""
    caches = (load_library, libraries.rows_library, libraries.transformer_library, kernels.can_multiply)
    try:
        with mock.patch.dict(os.environ, {SWITCH: "no-tiles"}):
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
