"""How much of this machine's matrix rate a training step reaches.

    python -m experiments.table_training_speed

Both are measured in the same run: bfloat16 products of square matrices, and whole training steps (forward,
backward, AdamW) of the dynamics and the tokenizer, whose products PyTorch's own counter adds up.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from experiments.results_file import write_results
from genie_gym.configs import OptimizerConfig, TransformerConfig, WorldConfig
from genie_gym.models.base import Model
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.presets import PRESETS
from genie_gym.training.optim import build_optimizer

MATRIX = 4096


@dataclass(frozen=True, kw_only=True)
class TrainingSpeed:
    """Measure training steps at several widths."""

    widths: tuple[int, ...] = (256, 512)
    """Features a token."""
    layers: int = 4
    """Blocks."""
    clips: int = 4
    """Clips of 16 frames a step, 64 tokens a frame."""
    repeats: int = 5
    """Steps timed; the median counts."""
    device: str = "cpu"
    """Where."""
    json: Path = Path("experiments/results/training_speed.json")
    """File of results."""

    def run(self) -> None:
        """Measure, print, write."""
        matmul = self._matmul_rate()
        rows = [self._measure(name, width, matmul) for width in self.widths for name in ("dynamics", "tokenizer")]
        table = Table(title=f"bfloat16 matmul {matmul / 1e12:.3f} TFLOP/s, {torch.get_num_threads()} threads")
        for column in rows[0]:
            table.add_column(column)
        for row in rows:
            table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
        Console().print(table)
        threads = torch.get_num_threads()
        write_results(self.json, {"matmul_tflops": {"bfloat16": matmul / 1e12}, "threads": threads, "rows": rows})

    def _matmul_rate(self) -> float:
        left, right = (torch.randn(MATRIX, MATRIX, device=self.device).bfloat16() for _ in range(2))
        return 2 * MATRIX**3 / self._seconds(lambda: left @ right)

    def _measure(self, name: str, width: int, matmul: float) -> dict[str, Any]:
        config = _world(width, self.layers)
        videos = torch.rand(self.clips, 16, 3, 64, 64, device=self.device)
        tokens = torch.randint(1024, (self.clips, 16, 64), device=self.device)
        actions = torch.randint(8, (self.clips, 15), device=self.device)
        model: Model
        if name == "dynamics":
            model = dynamics = MaskGITDynamics(config).to(self.device)
            loss = functools.partial(dynamics.loss, tokens, actions)
        else:
            model = tokenizer = VideoTokenizer(config).to(self.device)
            loss = functools.partial(tokenizer.loss, videos)
        model.set_precision("bfloat16")
        optimizer = build_optimizer(model, OptimizerConfig())

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss().loss.backward()
            optimizer.step()

        with FlopCounterMode(display=False) as counter:
            step()
        seconds, operations = self._seconds(step), counter.get_total_flops()
        return {
            "model": name,
            "width": width,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "frames_per_second": self.clips * 16 / seconds,
            "share_of_matmul": operations / seconds / matmul,
        }

    def _seconds(self, work: Callable[[], object]) -> float:
        times = []
        for _ in range(self.repeats + 1):
            started = time.perf_counter()
            work()
            if self.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return sorted(times[1:])[self.repeats // 2]


def _world(width: int, layers: int) -> WorldConfig:
    stack = TransformerConfig(layers=layers, width=width, heads=width // 64, feed_forward_width=2 * width)
    world = PRESETS["coinrun"].world
    tokenizer = replace(world.tokenizer, encoder=stack, decoder=stack)
    return replace(world, tokenizer=tokenizer, dynamics=replace(world.dynamics, transformer=stack))


if __name__ == "__main__":
    tyro.cli(TrainingSpeed).run()
