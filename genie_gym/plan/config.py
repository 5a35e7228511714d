"""The command ``genie-gym plan`` and the machine it plans for; imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from genie_gym.checks import check_fields, require
from genie_gym.preset_arguments import PresetName, PresetValues

_MOST_PIXELS = 8192
"""Largest height and width that is planned: masks of the tokens of larger frames would fill the memory here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The GPUs to plan for, all alike."""

    gpus: int = 1
    """number of GPUs, one process each"""
    gpu_memory: float = 80.0
    """memory of a GPU in GB"""
    reserve: float = 0.1
    """share of the memory that is left to CUDA, NCCL and fragmentation"""
    gpu_tflops: float = 989.0
    """bfloat16 rate of a GPU in its data sheet, in TFLOP/s, without sparsity; 989 is an H100's"""
    mfu: float = 0.4
    """share of that rate that training reaches (model FLOP utilisation)"""

    def __post_init__(self) -> None:
        check_fields(self, positive="gpus gpu_memory gpu_tflops mfu", shares="reserve mfu")
        require(self.reserve < 1, "Machine.reserve", self.reserve, "below 1, to leave memory to training")
        require(self.gpu_tflops * self.mfu > 0, "Machine.mfu", self.mfu, "large enough for a rate above 0")
        require(self.gpu_memory <= 1e9, "Machine.gpu_memory", self.gpu_memory, "at most 1e9")

    @property
    def usable_bytes(self) -> int:
        """Bytes of a GPU that training may fill."""
        return int(1e9 * self.gpu_memory * (1 - self.reserve))


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """Say what training a preset takes on some GPUs, whether it fits, and what would make it fit; needs no GPU."""

    preset: PresetName = "coinrun"
    """name of the preset to plan"""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)
    """GPUs to train on"""
    json: Path | None = None
    """JSON file with an entry for each preset; this preset's is written"""
    config: PresetValues
    """values of the preset"""

    def run(self) -> None:
        """Plan, print and write."""
        from rich.console import Console

        from genie_gym.plan.estimate import make_plan
        from genie_gym.plan.report import print_plan, read_plans, write_plan
        from genie_gym.results.files import require_writable

        for side in ("height", "width"):
            pixels = getattr(self.config.world, side)
            require(pixels <= _MOST_PIXELS, f"--world.{side}", pixels, f"at most {_MOST_PIXELS}")
        if self.json is not None:
            require_writable(self.json)
            read_plans(self.json)  # refuses a file of other results
        plan = make_plan(self.config, self.machine)
        print_plan(Console(), self.preset, plan)
        if self.json is not None:
            write_plan(self.json, self.preset, plan)
