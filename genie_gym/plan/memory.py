"""Bytes of a rank in one phase of training, with weights that are whole (DDP) or sharded (FSDP2).

Weights are float32, as are gradients and the optimiser's moments. A shard holds some rows of each weight. A sharded
block is gathered in the precision of training before it computes, and the next one meanwhile; what lies outside of
blocks stays gathered in float32. With checkpointed blocks only their inputs are kept for the backward pass, which
computes each of them again.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genie_gym.configs import MovingActionConfig, Preset, TrainConfig, WorldConfig
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.st_transformer import Block
from genie_gym.plan.meta_run import StepCost, run_on_meta
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.loop import Trainee
from genie_gym.training.optim import build_optimizer
from genie_gym.training.tokenizer import TokenizerTrainee
from genie_gym.training.world import DynamicsTrainee, WorldTrainee

_FLOAT32 = 4
_DRAWS, _DRAWN_CLIPS = 64, 8
"""Number of masks from which the largest share of hidden tokens is taken, and clips in each."""


class TrainedPhase(NamedTuple):
    """One phase of training on the meta device."""

    name: str
    """``tokenizer``, ``actions`` or ``world``, as in the folder of a run"""
    config: TrainConfig
    """hyperparameters"""
    trainee: Trainee
    """what is trained"""
    world: GenieWorldModel
    """the world"""
    models: nn.Module
    """the models that the phase needs on the device, those it trains and those that are frozen"""

    @property
    def trained(self) -> list[nn.Parameter]:
        """The weights that are trained."""
        return [each for each in self.trainee.parameters() if each.requires_grad]

    @property
    def blocks(self) -> list[Block]:
        """The transformer blocks that are trained."""
        return [each for each in self.trainee.modules() if isinstance(each, Block)]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of features on a GPU that has bfloat16."""
        return torch.float32 if self.config.precision == "float32" else torch.bfloat16


@dataclass(frozen=True, kw_only=True)
class RankState:
    """Bytes that a rank holds whatever it computes; see ``count_state``."""

    parameters: int
    """float32 weights that are trained, or the rank's shard of them"""
    gradients: int
    """their float32 gradients"""
    moments: int
    """the optimiser's moments and step counts"""
    frozen: int
    """weights that the phase does not train, and buffers; whole on every rank"""
    gathered: int
    """what a pass holds of sharded weights: two blocks and all else, and the gradients of one block on their way; of
    whole weights their copies in the precision of training"""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))


def build_phases(preset: Preset) -> Iterator[TrainedPhase]:
    """Build the world on the meta device, and yield its phases; each is valid until the next."""
    with torch.device("meta"):
        world = GenieWorldModel(_settle_box(preset.world))
    model = world.latent_action_model
    yield TrainedPhase(
        "tokenizer", preset.tokenizer_training, TokenizerTrainee(world.tokenizer), world, world.tokenizer
    )
    if preset.action_training is not None:
        yield TrainedPhase("actions", preset.action_training, ActionsTrainee(model), world, model)
        model.eval().requires_grad_(False)
    world.tokenizer.eval().requires_grad_(False)
    kind = WorldTrainee if preset.action_training is None else DynamicsTrainee
    yield TrainedPhase("world", preset.world_training, kind(world), world, world)


def _settle_box(config: WorldConfig) -> WorldConfig:
    """Return the config with the largest box and the narrowest border, in place of those to be found in data."""
    part = config.latent_action_model
    if not isinstance(part, MovingActionConfig):
        return config
    side = min(config.height, config.width) // 4
    box = (0, 0, side, side) if part.agent_box == "find" else part.agent_box
    border = 0 if part.border == "find" else part.border
    return replace(config, latent_action_model=replace(part, agent_box=box, border=border))


def count_state(phase: TrainedPhase, ranks: int, is_sharded: bool, is_checkpointed: bool) -> RankState:
    """Count the bytes of the first rank, whose shards are the largest."""
    trained, cut = phase.trained, ranks if is_sharded else 1
    moments = 0
    for group in build_optimizer(phase.trainee, phase.config.optimizer).param_groups:
        moments += (1 if group["orthogonal"] else 2) * _shard_bytes(group["params"], cut)
        moments += _FLOAT32 * len(group["params"])  # each weight's steps are counted in a float32
    kept = [each for each in phase.models.parameters() if not each.requires_grad] + list(phase.models.buffers())
    frozen = sum(each.numel() * each.element_size() for each in kept)
    blocks = [sum(each.numel() for each in block.parameters()) for block in phase.blocks]
    largest, rest = max(blocks, default=0), sum(each.numel() for each in trained) - sum(blocks)
    if is_sharded:
        gathered = 2 * _FLOAT32 * rest + (3 * phase.dtype.itemsize + _FLOAT32) * largest
    else:
        is_cast = phase.dtype != torch.float32
        gathered = is_cast * phase.dtype.itemsize * (largest if is_checkpointed else sum(blocks))
    parameters = _shard_bytes(trained, cut)
    held = {"parameters": parameters, "gradients": parameters, "moments": moments}
    return RankState(**held, frozen=frozen, gathered=gathered)


def measure_step(phase: TrainedPhase, clips: int, is_checkpointed: bool, is_fused: bool = True) -> StepCost:
    """Run a pass of ``clips`` clips on the meta device, with blocks whose weights have the precision of training.

    Args:
        phase: Phase of training.
        clips: Number of clips that go through the models together.
        is_checkpointed: Whether only the inputs of blocks are kept for the backward pass.
        is_fused: As for ``run_on_meta``.
    """
    config, trainee, size = phase.config, phase.trainee, (phase.world.config.height, phase.world.config.width)
    trainee.set_precision(str(phase.dtype).removeprefix("torch."))
    trainee.train()
    for block in phase.blocks:
        for each in block.parameters():
            each.grad, each.data = None, each.data.to(phase.dtype)
    for each in phase.trained:
        each.grad = torch.empty_like(each)
    hidden = math.ceil(clips * _hidden_tokens(phase)) if phase.name == "world" else 0
    held = [*phase.world.parameters(), *phase.world.buffers(), *(each.grad for each in phase.trained)]

    def loss() -> Tensor:
        videos = torch.empty(clips, config.clip_length, 3, *size, device="meta")
        return trainee.loss(Batch(videos, torch.empty(clips, dtype=torch.int64, device="meta"))).loss

    with checkpointed(phase.blocks if is_checkpointed else []):
        return run_on_meta(loss, [each for each in held if each is not None], hidden, is_fused)


def _hidden_tokens(phase: TrainedPhase) -> float:
    """Return the number of hidden tokens in a clip, the largest of some batches."""
    tokens = torch.zeros(_DRAWN_CLIPS, phase.config.clip_length, phase.world.config.tokens_per_frame, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return max(int(phase.world.dynamics.draw_mask(tokens).sum()) for _ in range(_DRAWS)) / _DRAWN_CLIPS


@contextmanager
def checkpointed(blocks: Iterable[Block]) -> Iterator[None]:
    """Compute blocks again in the backward pass, without their keys and values, which training does not read."""
    for block in blocks:
        block.forward = functools.partial(_recompute, block.forward)  # type: ignore[method-assign]
    yield
    for block in blocks:
        del block.__dict__["forward"]


def _recompute(forward: Callable[..., Any], *inputs: Tensor | None) -> tuple[Tensor, None]:
    return checkpoint(lambda *each: forward(*each)[0], *inputs, use_reentrant=False, preserve_rng_state=False), None


def _shard_bytes(tensors: Iterable[Tensor], ranks: int) -> int:
    """Return the float32 bytes of a rank's rows, which every rank pads to the same number."""
    return sum(_FLOAT32 * -(-each.shape[0] // ranks) * each.shape[1:].numel() for each in tensors)
