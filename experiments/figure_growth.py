"""How the cost of a played frame grows: with the context, the frame's size, the environments and the width.

    python -m experiments.figure_growth

Worlds of random weights, each ``coinrun`` with one thing changed, with the cache and the context full. Beside each
curve lies the growth of the operations a frame needs, through the time measured at ``coinrun``'s own size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import tyro
from rich.console import Console

from genie_gym.bench.machine import describe_machine
from genie_gym.bench.operations import step_operations
from genie_gym.bench.worlds import cached_fps
from genie_gym.configs import TransformerConfig, WorldConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.files import write_results


@dataclass(frozen=True, kw_only=True)
class GrowthFigure:
    """Measure and draw four curves."""

    context_lengths: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Frames."""
    sizes: tuple[int, ...] = (64, 96, 128, 192, 256)
    """Pixels a side."""
    num_envs: tuple[int, ...] = (1, 4, 16, 64)
    """Rows of a batch."""
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    """Features a token of the dynamics."""
    seconds: float = 3.0
    """For each measurement."""
    device: str = "cpu"
    """Where."""
    json: Path = Path("experiments/results/growth.json")
    """File of results."""
    picture: Path = Path("experiments/figures/growth.png")
    """File of the figure."""

    def run(self) -> None:
        """Measure, print, write, draw."""
        base = PRESETS["coinrun"].world
        curves: dict[str, tuple[tuple[int, ...], int, Callable[[int], WorldConfig]]] = {
            "context length, frames": (self.context_lengths, 16, lambda value: replace(base, context_length=value)),
            "frame size, pixels a side": (self.sizes, 64, lambda value: replace(base, height=value, width=value)),
            "environments": (self.num_envs, 1, lambda value: base),
            "width of the dynamics": (self.widths, 256, lambda value: _widen(base, value)),
        }
        results: dict[str, Any] = {}
        for name, (values, usual, build) in curves.items():
            rows = [self._measure(build(value), value, value if name == "environments" else 1) for value in values]
            reference = next((row for row in rows if row["value"] == usual), rows[0])
            for row in rows:
                row["expected_ms"] = reference["ms"] * row["gflop"] / reference["gflop"]
                Console().print(f"{name} {row['value']}: {row['ms']:.1f} ms, by operations {row['expected_ms']:.1f}")
            results[name] = rows
        machine = describe_machine(torch.device(self.device))
        write_results(self.json, {"machine": machine, "maskgit_steps": base.sampling.maskgit_steps, "curves": results})
        self._draw(results)

    def _measure(self, config: WorldConfig, value: int, rows: int) -> dict[str, Any]:
        torch.manual_seed(0)
        world = GenieWorldModel(config).to(self.device).freeze()
        seconds = rows / cached_fps(world, rows, self.seconds)
        operations = rows * step_operations(config, config.sampling.maskgit_steps)
        return {"value": value, "ms": 1e3 * seconds, "gflop": operations / 1e9}

    def _draw(self, results: dict[str, list[dict[str, Any]]]) -> None:
        figure, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 3.6))
        for one, (name, rows) in zip(axes, results.items(), strict=True):
            values = [row["value"] for row in rows]
            one.loglog(values, [row["ms"] for row in rows], "o-", label="measured")
            one.loglog(values, [row["expected_ms"] for row in rows], "--", color="grey", label="by operations")
            one.set(xlabel=name, xticks=values, xticklabels=values, ylabel="ms a step")
            one.minorticks_off()
            every = [row[kind] for row in rows for kind in ("ms", "expected_ms")]
            one.set_ylim(min(every) / 2, max(every) * 2)
        axes[0].legend()
        self.picture.parent.mkdir(parents=True, exist_ok=True)
        figure.tight_layout()
        figure.savefig(self.picture, dpi=120)


def _widen(world: WorldConfig, width: int) -> WorldConfig:
    stack = TransformerConfig(
        layers=world.dynamics.transformer.layers,
        width=width,
        heads=width // 32,
        head_dim=32,
        feed_forward_width=2 * width,
    )
    return replace(world, dynamics=replace(world.dynamics, transformer=stack))


if __name__ == "__main__":
    tyro.cli(GrowthFigure).run()
