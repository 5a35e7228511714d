"""What `genie-gym plan` says of each preset, and its memory beside that of runs on this machine's CPU.

    python -m experiments.ablations.plans --preset full

The runs are passes of a small copy of the paper's case study, with frames that are padded. Their allocations are
recorded by PyTorch's profiler.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch.profiler import ProfilerActivity, profile

from genie_gym.config_io import vary
from genie_gym.configs import Preset
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.plan.config import Machine
from genie_gym.plan.estimate import make_plan
from genie_gym.plan.memory import TrainedPhase, build_phases, checkpointed, count_state, measure_step
from genie_gym.presets import PRESETS, SCALING_ROWS
from genie_gym.results.experiment import Row, TrainedExperiment
from genie_gym.training.loop import Trainee
from genie_gym.training.tokenizer import TokenizerTrainee
from genie_gym.training.world import WorldTrainee

_ONE_GPU = ("study", "coinrun", "videos", "coinrun-case-study")
_PAPER = (*SCALING_ROWS, "batch-448", "robotics", "platformers")
_GPUS = {**dict.fromkeys(_ONE_GPU, 1), **dict.fromkeys(_PAPER, 64)}
"""Number of GPUs by preset."""
_CLIPS, _STEPS = 2, 4
"""Clips in a measured pass, and number of passes: the dynamics' masks differ."""


@dataclass(frozen=True, kw_only=True)
class PlansTable(TrainedExperiment):
    """Plan presets, and measure passes beside their plan."""

    name = "plans"
    only: tuple[str, ...] = ()
    """presets to plan now, by default all; a later run adds the others"""

    def run(self) -> None:
        """Plan the presets, measure, and write both."""
        presets = self.only or (_GPUS if self.preset == "full" else _ONE_GPU[:1])
        machine = {"gpu_memory": 80.0, "gpu_tflops": 989.0, "mfu": 0.4}

        def plan(cell: Row) -> Row:
            return make_plan(PRESETS[cell["name"]], Machine(gpus=cell["gpus"], **machine)).to_dict()

        stored = json.loads(self.json.read_text()).get("measured") if self.json.exists() else None
        measured = stored or measure_all()
        rows = self.finish_rows([{"name": name, "gpus": _GPUS[name]} for name in presets], {}, plan)
        self.write({"rows": rows, "measured": measured})


def measure_all() -> list[Row]:
    """Return planned and measured bytes of activations, by phase, precision and checkpointing."""
    rows = []
    for precision in ("float32", "bfloat16"):
        for phase in build_phases(small_preset(precision)):
            for is_checkpointed in (False, True):
                planned, measured = compare_with_run(phase, is_checkpointed)
                cell = {"phase": phase.name, "precision": precision, "checkpoint_blocks": is_checkpointed}
                rows.append({**cell, "planned": planned, "measured": measured})
    return rows


def small_preset(precision: str) -> Preset:
    """Return the paper's architecture at a size whose activations are a few dozen MB."""
    narrow = {"layers": 2, "width": 32, "heads": 2, "head_dim": 16, "feed_forward_width": 32}
    wide = {"layers": 4, "width": 64, "heads": 2, "head_dim": 32, "feed_forward_width": 128}
    parts = [f"{model}.{part}" for model in ("tokenizer", "latent_action_model") for part in ("encoder", "decoder")]
    sizes = {**dict.fromkeys(parts, narrow), "dynamics.transformer": wide}
    stacks = {f"world.{part}.{name}": value for part, size in sizes.items() for name, value in size.items()}
    frames = {"world.height": 44, "world.width": 60, "world.tokenizer.quantizer.codes": 64}
    training = {"clip_length": 8, "precision": precision}
    phases = {f"{phase}_training.{name}": value for phase in ("tokenizer", "world") for name, value in training.items()}
    return vary(PRESETS["coinrun-case-study"], {**stacks, **frames, **phases})


def compare_with_run(phase: TrainedPhase, is_checkpointed: bool) -> tuple[int, int]:
    """Return planned and measured bytes of activations of a pass on this CPU, one process, whole weights."""
    casts = count_state(phase, 1, is_sharded=False, is_checkpointed=is_checkpointed).gathered
    planned = casts + measure_step(phase, _CLIPS, is_checkpointed, is_fused=False).activations
    return planned, _measure(give_weights(phase), is_checkpointed)


def give_weights(phase: TrainedPhase) -> TrainedPhase:
    """Return the phase of the tokenizer or of the world with weights on the CPU, and codebooks that are set."""
    torch.manual_seed(0)
    world = GenieWorldModel(phase.world.config)
    for model in (world.tokenizer, world.latent_action_model):
        for name, buffer in model.named_buffers():
            if name.endswith("is_initialised"):
                buffer.fill_(True)
    trainee: Trainee = TokenizerTrainee(world.tokenizer)
    if phase.name == "world":
        world.tokenizer.eval().requires_grad_(False)
        trainee = WorldTrainee(world)
    return phase._replace(world=world, trainee=trainee)


def _measure(phase: TrainedPhase, is_checkpointed: bool) -> int:
    """Return the largest number of bytes that passes allocate beside weights and gradients."""
    phase.trainee.set_precision(phase.config.precision)
    phase.trainee.train()
    for each in phase.trained:
        each.grad = torch.zeros_like(each)
    size = phase.world.config.height, phase.world.config.width

    def step() -> None:
        videos = torch.rand(_CLIPS, phase.config.clip_length, 3, *size)
        phase.trainee.loss(Batch(videos, torch.arange(_CLIPS))).loss.backward()

    with checkpointed(phase.blocks if is_checkpointed else []):
        step()  # what is allocated once
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            for _ in range(_STEPS):
                step()
    results: Any = recorded.profiler
    events = [each for each in results.kineto_results.events() if each.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


if __name__ == "__main__":
    tyro.cli(PlansTable).run()
