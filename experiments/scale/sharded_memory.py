"""Peak memory of a process that trains a scaled-down copy of the paper's dynamics with another one, by sharding.

    python -m experiments.scale.sharded_memory

Two processes on the CPU train the dynamics of the preset ``platformers``, with fewer and narrower blocks and on clips
of two frames, through the loop and the ``torchrun`` that train the whole one: replicated (DDP) or sharded (FSDP2), with
and without checkpointed blocks. The peak is that of the process over its life, less what it takes once everything is
imported; freed memory goes back to the system at once, so that it does not count.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from genie_gym.config_io import vary
from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.files import write_results
from genie_gym.training.distributed import Ranks, run_on_ranks
from genie_gym.training.loop import Phase
from genie_gym.training.speed import read_peak
from genie_gym.training.world import train_dynamics

_RESULTS = Path(__file__).parents[1] / "results" / "sharded_memory.json"
_SMALL = {"layers": 1, "width": 32, "heads": 1, "head_dim": 32, "feed_forward_width": 32}
_SIZES = {"layers": 16, "width": 640, "heads": 5, "head_dim": 128, "value_dim": 128, "feed_forward_width": 80}
"""Sizes of the dynamics: of ``platformers`` a third of the layers, and an eighth of the width."""
_STEPS, _BATCH, _FRAMES = 2, 2, 2
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure all ways of training, or as one of two processes one of them."""

    json: Path = _RESULTS
    """JSON file to write"""
    folder: Path | None = None
    """folder of the run that this process takes part in; by default it starts all runs"""
    sharding: str = "ddp"
    """sharding of the run"""
    checkpoint_blocks: bool = False
    """whether the run checkpoints blocks"""


def _batches(first: int, number: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
    for index in range(first, first + number):
        videos = torch.rand(_BATCH, _FRAMES, 3, 92, 160, generator=torch.Generator().manual_seed(index))
        numbers = torch.arange(_BATCH)
        yield Batch(videos, numbers) if rows is None else Batch(videos[rows], numbers[rows])


def _measure(settings: Settings, ranks: Ranks) -> None:
    """Train and write this rank's peak memory into the run's folder."""
    assert settings.folder is not None
    before = read_peak(_CPU)
    changes: dict[str, Any] = {f"dynamics.transformer.{name}": value for name, value in _SIZES.items()}
    for part in (
        "tokenizer.encoder",
        "tokenizer.decoder",
        "latent_action_model.encoder",
        "latent_action_model.decoder",
    ):
        changes |= {f"{part}.{name}": value for name, value in _SMALL.items()}
    torch.manual_seed(0)
    world = GenieWorldModel(vary(PRESETS["platformers"].world, changes))
    weights = sum(each.numel() for each in world.dynamics.parameters())
    training: TrainConfig = vary(
        PRESETS["platformers"].world_training,
        {
            "train_steps": _STEPS,
            "batch_size": _BATCH,
            "clip_length": _FRAMES,
            "precision": "float32",
            "sharding": settings.sharding,
            "checkpoint_blocks": settings.checkpoint_blocks,
            "log_every": 1,
            "picture_every": 0,
        },
    )
    train_dynamics(world, Phase(_batches, training, settings.folder / "run", progress=False))
    found = {"peak_mb": (read_peak(_CPU) - before) / 1e6, "weights": weights}
    (settings.folder / f"{ranks.rank}.json").write_text(json.dumps(found))


def run_pair(sharding: str, checkpoint_blocks: bool) -> dict[str, Any]:
    """Return the peak memory of both processes of a run in MB, and its number of weights."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--sharding", sharding, "--folder", folder, *(["--checkpoint-blocks"] if checkpoint_blocks else [])]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**18)}
        subprocess.run([sys.executable, *launcher, "-m", __spec__.name, *options], check=True, env=environment)
        found = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(2)]
    peaks = [each["peak_mb"] for each in found]
    return {
        "sharding": sharding,
        "checkpoint_blocks": checkpoint_blocks,
        "peaks_mb": peaks,
        "weights": found[0]["weights"],
    }


def main() -> None:
    """Measure and write the results, or take part in a run."""
    settings = tyro.cli(Settings)
    if settings.folder is not None:
        run_on_ranks("cpu", lambda ranks, _: _measure(settings, ranks))
        return
    rows = []
    for sharding in ("ddp", "fsdp"):
        for checkpoint_blocks in (False, True):
            rows.append(run_pair(sharding, checkpoint_blocks))
            sys.stdout.write(f"{rows[-1]}\n")
    write_results(settings.json, {"sizes": _SIZES, "batch_size": _BATCH, "frames": _FRAMES, "rows": rows})


if __name__ == "__main__":
    main()
