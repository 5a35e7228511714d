"""Planned memory beside what a run on this CPU takes, and beside FSDP2's own shards."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore

from genie_gym.config_io import vary
from genie_gym.configs import Preset
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.plan.memory import RankState, TrainedPhase, build_phases, count_state, measure_step
from genie_gym.presets import PRESETS
from genie_gym.training.optim import build_optimizer
from genie_gym.training.tokenizer import TokenizerTrainee
from genie_gym.training.world import WorldTrainee

RANKS, CLIPS = 64, 2


def find_phase(preset: Preset, name: str) -> TrainedPhase:
    return next(phase for phase in build_phases(preset) if phase.name == name)


def small_preset(precision: str) -> Preset:
    """Return the paper's architecture at a size whose activations are a few dozen MB."""
    stack: dict[str, Any] = {"layers": 4, "width": 64, "heads": 2, "head_dim": 32, "feed_forward_width": 128}
    narrow = {"layers": 2, "width": 32, "heads": 2, "head_dim": 16, "feed_forward_width": 32}
    case_study = PRESETS["coinrun-case-study"]
    transformers = {
        f"world.tokenizer.{part}.{name}": value for part in ("encoder", "decoder") for name, value in narrow.items()
    }
    transformers |= {
        f"world.latent_action_model.{part}.{name}": value
        for part in ("encoder", "decoder")
        for name, value in narrow.items()
    }
    transformers |= {f"world.dynamics.transformer.{name}": value for name, value in stack.items()}
    phases = ("tokenizer_training", "world_training")
    changes = {
        f"{phase}.{name}": value for phase in phases for name, value in (("clip_length", 8), ("precision", precision))
    }
    return vary(
        case_study,
        {**transformers, **changes, "world.height": 44, "world.width": 60, "world.tokenizer.quantizer.codes": 64},
    )


def measure_peak(phase: TrainedPhase, is_checkpointed: bool) -> int:
    """Return the largest number of bytes that a real pass allocates on this CPU beside weights and gradients."""
    torch.manual_seed(0)
    world = GenieWorldModel(phase.world.config)
    trainee: Any = TokenizerTrainee(world.tokenizer)
    if phase.name == "world":
        world.tokenizer.eval().requires_grad_(False)
        trainee = WorldTrainee(world)
    for model in (world.tokenizer, world.latent_action_model):
        model.quantizer.is_initialised.fill_(True)
    trainee.set_precision(phase.config.precision)
    trainee.train()
    real = phase._replace(trainee=trainee, world=world)
    for each in real.trained:
        each.grad = torch.zeros_like(each)
    size = phase.world.config.height, phase.world.config.width

    def step() -> None:
        videos = torch.rand(CLIPS, phase.config.clip_length, 3, *size)
        trainee.loss(Batch(videos, torch.arange(CLIPS))).loss.backward()

    from genie_gym.plan.memory import _checkpointed

    with _checkpointed(real.blocks if is_checkpointed else []):
        step()  # what is allocated once
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            for _ in range(4):  # masks differ from step to step
                step()
    events = [each for each in recorded.profiler.kineto_results.events() if each.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("name", ["tokenizer", "world"])
def test_planned_activations_are_those_of_a_run(name: str, is_checkpointed: bool, precision: str) -> None:
    phase = find_phase(small_preset(precision), name)
    casts = count_state(phase, 1, is_sharded=False, is_checkpointed=is_checkpointed).gathered
    planned = casts + measure_step(phase, CLIPS, is_checkpointed, is_fused=False).activations
    measured = measure_peak(phase, is_checkpointed)
    print(name, is_checkpointed, precision, planned, measured, planned / measured)
    assert planned == pytest.approx(measured, rel=0.1)
