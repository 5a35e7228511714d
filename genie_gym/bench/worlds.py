"""Speed of a world without an environment: with and without KV cache, by MaskGIT steps, and of labelling."""

import functools

import torch
from torch import Tensor

from genie_gym.bench.timing import measure
from genie_gym.models.uncached import rollout_uncached
from genie_gym.models.world_model import GenieWorldModel

UNCACHED_FRAMES = 2
LABELLED_CLIPS, LABELLED_FRAMES = 32, 16


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
    """Return the frames per second of ``rollout_uncached``, whose every pass is over the whole context.

    Only generated frames count: the time of a roll-out that reads the prompt and generates nothing is subtracted.
    """
    videos = _random_videos(world, rows, world.config.context_length)
    actions = _random_actions(world, rows, UNCACHED_FRAMES)

    def play(frames: int) -> Tensor:
        return rollout_uncached(world, videos, actions[:, :frames], window=world.config.context_length)

    prompt, whole = (
        measure(functools.partial(play, frames), seconds, world.device).seconds for frames in (0, UNCACHED_FRAMES)
    )
    return rows * UNCACHED_FRAMES / (whole - prompt)


def labelling_fps(world: GenieWorldModel, seconds: float) -> float:
    """Return the frames per second of ``world.label`` on batches of 32 clips of 16 frames."""
    videos = _random_videos(world, LABELLED_CLIPS, LABELLED_FRAMES)
    return LABELLED_CLIPS * LABELLED_FRAMES / measure(lambda: world.label(videos), seconds, world.device).seconds


def _random_videos(world: GenieWorldModel, rows: int, frames: int) -> Tensor:
    return torch.rand(rows, frames, 3, world.config.height, world.config.width, device=world.device)


def _random_actions(world: GenieWorldModel, rows: int, frames: int) -> Tensor:
    return torch.randint(world.config.num_latent_actions, (rows, frames), device=world.device)
