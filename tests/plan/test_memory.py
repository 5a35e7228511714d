"""Planned memory beside what passes on this CPU allocate, and beside FSDP2's own shards."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from experiments.ablations.plans import compare_with_run, small_preset
from genie_gym.config_io import vary
from genie_gym.configs import Preset
from genie_gym.plan.memory import TrainedPhase, build_phases, count_state, measure_step
from genie_gym.presets import PRESETS
from genie_gym.training.optim import build_optimizer
from tests.plan import sharded_passes
from tests.training.rank_helpers import HANG

RANKS = 64


def find_phase(preset: Preset, name: str) -> TrainedPhase:
    for phase in build_phases(preset):
        if phase.name == name:
            return phase
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "is_checkpointed", "precision"),
    [
        ("tokenizer", False, "bfloat16"),
        ("tokenizer", True, "float32"),
        ("world", False, "float32"),
        ("world", True, "bfloat16"),
    ],
)
def test_planned_activations_are_those_of_a_run(name: str, is_checkpointed: bool, precision: str) -> None:
    planned, measured = compare_with_run(find_phase(small_preset(precision), name), is_checkpointed)
    assert planned == pytest.approx(measured, rel=0.1)


@pytest.fixture
def fake_ranks() -> Iterator[int]:
    """Let this process be the first of 64 ranks, whose messages go nowhere."""
    dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield RANKS
    dist.destroy_process_group()


def local_bytes(tensors: Any) -> int:
    """Return the bytes that this rank allocates for tensors, padding included."""
    parts = [each.to_local() if isinstance(each, DTensor) else each for each in tensors]
    return sum(each.untyped_storage().nbytes() for each in parts)


@pytest.mark.parametrize("name", ["tokenizer", "world"])
def test_shards_of_the_largest_preset_are_planned_to_the_byte(fake_ranks: int, name: str) -> None:
    phase = find_phase(PRESETS["platformers"], name)
    planned = count_state(phase, fake_ranks, is_sharded=True, is_checkpointed=True)
    mesh, policy = init_device_mesh("cpu", (fake_ranks,)), MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    for block in phase.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(phase.trainee, mesh=mesh)
    assert planned.parameters == local_bytes(phase.trained)
    for each in phase.trained:
        each.grad = torch.zeros_like(each)
    assert planned.gradients == local_bytes(each.grad for each in phase.trained)
    optimizer = torch.optim.AdamW(phase.trained, foreach=False, fused=False)
    optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]
    assert planned.moments == local_bytes(state)
    whole = count_state(phase, 1, is_sharded=False, is_checkpointed=True)
    assert whole.parameters == 4 * sum(each.numel() for each in phase.trained)
    assert planned.parameters < 1.01 * whole.parameters / fake_ranks


@pytest.mark.pipeline
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of some passes alone")
@pytest.mark.parametrize(("is_checkpointed", "precision"), [(True, "float32"), (False, "bfloat16")])
def test_gathered_weights_and_activations_of_shards_are_those_of_two_processes(
    is_checkpointed: bool, precision: str
) -> None:
    """On the CPU no block is gathered while another one computes: the plan counts one more than there are."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [sys.executable, *launcher, "-m", sharded_passes.__name__, str(is_checkpointed), precision]
    returned = {"MALLOC_MMAP_THRESHOLD_": str(2**15), "MALLOC_TRIM_THRESHOLD_": str(2**15)}
    done = subprocess.run(
        command, env={**os.environ, **returned}, capture_output=True, text=True, timeout=HANG, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"bytes (\d+) (\d+)", done.stdout)
    assert len(found) == 2
    for planned, measured in found:
        assert int(measured) < 1.02 * int(planned)
        assert int(planned) < 1.2 * int(measured)


@pytest.mark.parametrize("kind", ["adamw", "muon", "muon-conv"])
def test_moments_are_those_of_the_optimiser(kind: str) -> None:
    preset = vary(PRESETS["tiny"], {"world_training.optimizer.kind": kind})
    phase = find_phase(preset, "world")
    planned = count_state(phase, 1, is_sharded=False, is_checkpointed=False).moments
    for model in (phase.trainee, phase.world):
        model.to_empty(device="cpu")
    optimizer = build_optimizer(phase.trainee, phase.config.optimizer)
    for each in phase.trained:
        each.grad = torch.zeros_like(each)
    optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]
    assert planned == local_bytes(state)


def test_activations_of_the_largest_preset_fit_a_gpu_by_blocks_alone() -> None:
    """Inputs of 48 blocks, 16 frames of 920 tokens, 5,120 bfloat16 features: 7.2 GB a clip, and one block in work."""
    phase = find_phase(PRESETS["platformers"], "world")
    inputs = 48 * 16 * 920 * 5120 * 2
    assert inputs < measure_step(phase, 1, is_checkpointed=True).activations < 1.8 * inputs


def test_activations_grow_with_clips_and_shrink_with_checkpoints_and_fused_attention() -> None:
    phase = find_phase(small_preset("bfloat16"), "world")
    one, two = (measure_step(phase, clips, is_checkpointed=False) for clips in (1, 2))
    assert two.activations == pytest.approx(2 * one.activations, rel=0.02)
    assert two.operations == pytest.approx(2 * one.operations, rel=0.01)
    again = measure_step(phase, 1, is_checkpointed=True)
    assert again.activations < 0.6 * one.activations
    assert one.operations < again.operations < 1.4 * one.operations
    assert one.activations < 0.9 * measure_step(phase, 1, is_checkpointed=False, is_fused=False).activations
