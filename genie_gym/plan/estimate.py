"""The plan of a preset: what each phase of its training takes on some GPUs, and what makes it fit."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from genie_gym.checks import require
from genie_gym.configs import Preset, TransformerConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.plan.config import Machine
from genie_gym.plan.memory import RankState, TrainedPhase, build_phases, count_state, measure_step
from genie_gym.plan.meta_run import FUSED_BYTES, takes_fused
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.world import WorldTrainee

_DAY = 86_400
_MOST_CLIPS = 10**9
"""Largest batch that is planned; sizes of larger ones do not fit the numbers of PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to hold a phase's weights and activations, with as many clips a pass as fit, or one clip."""

    sharding: str
    """``ddp`` for whole weights on every GPU, ``fsdp`` for shards"""
    checkpoint_blocks: bool
    """whether blocks are computed again in the backward pass"""
    accumulate: int
    """number of parts of a batch"""
    clips: int
    """number of clips that a GPU computes at once"""
    state: RankState
    """bytes that do not depend on the clips"""
    activations: int
    """bytes of activations"""
    fits: bool
    """whether all of it fits"""

    @property
    def total(self) -> int:
        """Bytes of a rank at the peak of a step."""
        return self.state.total + self.activations


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """What one phase takes."""

    name: str
    """``tokenizer``, ``actions`` or ``world``"""
    parameters: int
    """number of weights that are trained"""
    steps: int
    """number of steps"""
    clips: int
    """number of clips in a batch"""
    gpus: int
    """number of GPUs used, the most that divide a batch"""
    tokens_a_step: int
    """number of tokens in a batch"""
    operations_a_step: int
    """floating-point operations of a step on all GPUs, without what is computed again"""
    days: float
    """days of all steps"""
    ways: list[Way]
    """ways to train, the fastest first"""
    hints: list[str] = field(default_factory=list)
    """what makes it fit, if nothing does, and what costs memory in vain"""

    @property
    def options(self) -> str:
        """The options of ``genie-gym train`` that choose the fastest way that fits, or the smallest."""
        way, phase = self.chosen, _name_option(self.name)
        recomputed = f" {phase}.checkpoint-blocks" if way.checkpoint_blocks else ""
        return f"{phase}.sharding {way.sharding}{recomputed} {phase}.accumulate {way.accumulate}"

    @property
    def chosen(self) -> Way:
        """The fastest way that fits, or the smallest."""
        return next((way for way in self.ways if way.fits), min(self.ways, key=lambda way: way.total))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a preset takes."""

    machine: Machine
    """the GPUs"""
    parameters: dict[str, int]
    """number of weights of each model"""
    play_bytes: int
    """bytes of the weights in play"""
    cache_bytes: int
    """bytes of the KV caches of one row in play"""
    phases: list[PhasePlan]
    """phases of training, in order"""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return asdict(self)


def make_plan(preset: Preset, machine: Machine) -> Plan:
    """Plan the training of a preset; no weight is allocated."""
    phases = []
    for phase in build_phases(preset):
        size = phase.config.batch_size
        require(size <= _MOST_CLIPS, f"{_name_option(phase.name)}.batch-size", size, f"at most {_MOST_CLIPS:,}")
        phases.append(_plan_phase(phase, machine))
    world = phase.world
    models = {name: sum(each.numel() for each in model.parameters()) for name, model in world.named_children()}
    element = 4 if preset.world.precision == "float32" else 2
    return Plan(
        machine=machine,
        parameters=models,
        play_bytes=element * sum(models.values()),
        cache_bytes=_cache_bytes(world, torch.float32 if element == 4 else torch.bfloat16),
        phases=phases,
    )


def _cache_bytes(world: GenieWorldModel, dtype: torch.dtype) -> int:
    """Return the bytes of one row's keys and values in play."""
    world.set_precision(str(dtype).removeprefix("torch."))
    blocks = [*world.dynamics.empty_cache(1).blocks, *world.tokenizer.empty_cache(1).blocks]
    return sum(part.numel() * part.element_size() for block in blocks if block is not None for part in block)


def _plan_phase(phase: TrainedPhase, machine: Machine) -> PhasePlan:
    config, ways = phase.config, list[Way]()
    gpus = max(each for each in _divisors(config.batch_size) if each <= machine.gpus)
    clips, used = config.batch_size // gpus, replace(machine, gpus=gpus)
    shardings = [False, True] if gpus > 1 and config.optimizer.kind == "adamw" else [False]
    costs = {each: measure_step(phase, clips, each) for each in ((False, True) if phase.blocks else (False,))}
    for is_checkpointed, cost in costs.items():
        ways += [_fit(phase, used, is_sharded, is_checkpointed, cost.activations) for is_sharded in shardings]
    operations = gpus * costs[False].operations
    speed = gpus * machine.gpu_tflops * 1e12 * machine.mfu
    plan = PhasePlan(
        name=phase.name,
        parameters=sum(each.numel() for each in phase.trained),
        steps=config.train_steps,
        clips=config.batch_size,
        gpus=gpus,
        tokens_a_step=config.batch_size * config.clip_length * phase.world.config.tokens_per_frame,
        operations_a_step=operations,
        days=operations * config.train_steps / speed / _DAY,
        ways=ways,
    )
    plan.hints.extend(_give_hints(phase, plan, used))
    if gpus < machine.gpus:
        plan.hints.append(
            f"uses {gpus} of {machine.gpus} GPUs, the most that divide a batch of {config.batch_size} clips"
        )
    return plan


def _divisors(number: int) -> list[int]:
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)})


def _name_option(phase: str) -> str:
    """Return the beginning of the options of ``genie-gym train`` for a phase."""
    return f"--{phase.removesuffix('s')}-training"


def _fit(phase: TrainedPhase, machine: Machine, is_sharded: bool, is_checkpointed: bool, whole: int) -> Way:
    """Return the way with as many clips a pass as fit; ``whole`` is the bytes of activations of all clips of a GPU."""
    state = count_state(phase, machine.gpus, is_sharded, is_checkpointed)
    clips = phase.config.batch_size // machine.gpus
    room = machine.usable_bytes - state.total
    taken = next((each for each in reversed(_divisors(clips)) if whole * each / clips <= room), 1)
    activations = whole if taken == clips else measure_step(phase, taken, is_checkpointed).activations
    return Way(
        sharding="fsdp" if is_sharded else "ddp",
        checkpoint_blocks=is_checkpointed,
        accumulate=clips // taken,
        clips=taken,
        state=state,
        activations=activations,
        fits=activations <= room,
    )


def _give_hints(phase: TrainedPhase, plan: PhasePlan, machine: Machine) -> list[str]:
    """Say what would make a phase fit that does not, and which sizes cost memory in vain."""
    hints, way = [], plan.chosen
    if not way.fits:
        hints.append(f"does not fit: {_find_room(phase, way, machine)}")
    for name, part in _find_transformers(phase):
        element = phase.dtype.itemsize
        if not takes_fused(part.value_head_dim, element):
            step = FUSED_BYTES // element
            better = -(-part.value_head_dim // step) * step
            why = f"fused attention takes only multiples of {step}, and without it all scores are kept"
            hints.append(f"{name}.value_dim of {part.value_head_dim} takes more memory than {better}: {why}")
    return hints


def _find_room(phase: TrainedPhase, way: Way, machine: Machine) -> str:
    """Say what makes the smallest way fit."""
    kind, clips = phase.config.optimizer.kind, _divisors(phase.config.batch_size)
    if way.activations + count_state(phase, 2**20, True, True).total > machine.usable_bytes:
        taken = f"the activations of {way.clips} clips take {way.activations / 1e9:,.1f} GB"
        return f"{taken}; shorter clips, larger patches or GPUs with more memory take less"
    if kind != "adamw":
        return f"weights trained with {kind} cannot be sharded, those trained with adamw can"
    room = machine.usable_bytes - way.activations
    enough = next((each for each in clips if count_state(phase, each, True, True).total <= room), None)
    if enough is None:
        return f"a batch of more than {phase.config.batch_size} clips can be trained on more GPUs, which it takes"
    return f"with fsdp and checkpoint_blocks it fits on {enough} GPUs"


def _find_transformers(phase: TrainedPhase) -> list[tuple[str, TransformerConfig]]:
    """Return the transformers with attention in space that a phase trains, by their names in the config."""
    world = phase.world.config
    models = {"tokenizer": ["tokenizer"], "world": ["dynamics"]}.get(phase.name, [])
    if isinstance(phase.trainee, ActionsTrainee | WorldTrainee):
        models.append("latent_action_model")
    parts = [(f"world.{model}", getattr(world, model)) for model in models]
    named = [(f"{name}.{each.name}", getattr(part, each.name)) for name, part in parts for each in fields(part)]
    return [pair for pair in named if isinstance(pair[1], TransformerConfig) and pair[1].attention != "conv"]
