"""Speed of training steps (forward, backward, AdamW) of each model, in frames and operations per second."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from genie_gym.bench.config import BenchConfig
from genie_gym.bench.timing import measure
from genie_gym.config_io import vary
from genie_gym.configs import OptimizerConfig, TransformerActionConfig, TransformerConfig, WorldConfig
from genie_gym.models.base import LossOutput, Model
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import LatentActionModel, require_learned
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.presets import PRESETS
from genie_gym.training.optim import build_optimizer

TRAINING_CLIP_LENGTH = 16
"""Frames per clip in a training batch."""


class TrainingJob(NamedTuple):
    """A model whose training is timed."""

    model: str
    """``dynamics``, ``tokenizer``, ``latent_action_model_st`` or ``latent_action_model_conv``."""
    width: int
    """Transformer width; for ``conv``, channels at the finest scale."""
    config: WorldConfig


class TrainingSpeed(NamedTuple):
    """Speed of training a model, in bfloat16 where no field says otherwise."""

    parameters: int
    fps: float
    fps_float32: float
    tflops: float
    """Forward and backward operations per second, as counted by PyTorch's ``FlopCounterMode``."""


def list_jobs(widths: tuple[int, ...], layers: int) -> Iterator[TrainingJob]:
    """List three transformers at each width, and a convolutional latent action model."""
    for width in widths:
        config = _widen(width, layers)
        for model in ("dynamics", "tokenizer", "latent_action_model_st"):
            yield TrainingJob(model, width, config)
    width = 32
    config = vary(PRESETS["study"].world, {"latent_action_model.width": width})
    yield TrainingJob("latent_action_model_conv", width, config)


def time_training(
    job: TrainingJob, config: BenchConfig, device: torch.device, is_compiled: bool = False
) -> TrainingSpeed:
    """Time training steps on noise; the first step, which initialises codebooks, is neither timed nor counted.

    ``is_compiled`` compiles the transformers first, as ``TrainConfig.compile`` does; operations are counted without.
    """
    model, loss = _build(job, config.clips, device)
    optimizer = build_optimizer(model, OptimizerConfig())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().loss.backward()
        optimizer.step()

    step()
    with FlopCounterMode(display=False) as counter:
        step()
    if is_compiled:
        for module in model.modules():
            if isinstance(module, SpatioTemporalTransformer):
                module.compile(dynamic=False)
    seconds = {}
    for precision in ("float32", "bfloat16"):
        model.set_precision(precision)
        seconds[precision] = measure(step, config.seconds, device).seconds
    parameters = sum(parameter.numel() for parameter in model.parameters())
    fps, fps_float32 = (config.clips * TRAINING_CLIP_LENGTH / seconds[each] for each in ("bfloat16", "float32"))
    return TrainingSpeed(parameters, fps, fps_float32, counter.get_total_flops() / seconds["bfloat16"] / 1e12)


def _build(job: TrainingJob, clips: int, device: torch.device) -> tuple[Model, Callable[[], LossOutput]]:
    config = job.config
    if job.model == "dynamics":
        dynamics = MaskGITDynamics(config).to(device)
        tokens = torch.randint(dynamics.codes, (clips, TRAINING_CLIP_LENGTH, config.tokens_per_frame), device=device)
        actions = torch.randint(config.num_latent_actions, (clips, TRAINING_CLIP_LENGTH - 1), device=device)
        return dynamics, functools.partial(dynamics.loss, tokens, actions)
    model = VideoTokenizer(config) if job.model == "tokenizer" else LatentActionModel(config)
    videos = torch.rand(clips, TRAINING_CLIP_LENGTH, 3, config.height, config.width, device=device)
    return model.to(device), functools.partial(model.loss, videos)


def _widen(width: int, layers: int) -> WorldConfig:
    """Return the world of the preset ``study`` with only transformers, all of the given width and number of layers."""
    head_dim = min(width, 64)
    heads = width // head_dim
    stack = TransformerConfig(layers=layers, width=width, heads=heads, head_dim=head_dim, feed_forward_width=2 * width)
    world = PRESETS["study"].world
    codes = require_learned(world).quantizer
    actions = TransformerActionConfig(quantizer=codes, encoder=stack, decoder=stack)
    tokenizer = replace(world.tokenizer, encoder=stack, decoder=stack)
    dynamics = replace(world.dynamics, transformer=stack)
    return replace(world, tokenizer=tokenizer, latent_action_model=actions, dynamics=dynamics)
