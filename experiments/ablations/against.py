"""Time this checkout beside another one, such as a git worktree of an older commit, and compare their frames.

    git worktree add /tmp/older COMMIT
    python -m experiments.ablations.against --preset full --other /tmp/older

Each checkout plays ``gym.make_vec`` in processes of its own, with equal weights, seeds, actions, MaskGIT steps and
precision. The two play in turn, beside a matrix product of this process, so that whatever slows the machine for a while
slows both.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from experiments.lib.processes import PlayingProcess, ask_in_turn, open_player, take_medians
from genie_gym.bench.machine import matmul_tflops, multiplying
from genie_gym.bench.timing import measure
from genie_gym.models.loading import find_checkpoint
from genie_gym.results.experiment import WorldExperiment
from genie_gym.results.files import ROOT
from genie_gym.serving import load_world

AGAINST_PLAYER = Path(__file__).with_name("against_player.py")
"""Program that plays this project's environments; it runs in any checkout."""
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"num_envs": (1, 2), "frames": 3, "rounds": 2, "seconds": 0.02, "matrix": 256},
    "full": {"num_envs": (1, 16), "frames": 32, "rounds": 9, "seconds": 1.0, "matrix": 4096},
}
"""By preset: numbers of environments, frames of each that are compared, rounds, seconds of each of a round's runs."""


@dataclass(frozen=True, kw_only=True)
class AgainstComparison(WorldExperiment):
    """Compare processor time and frames of this checkout with those of another one."""

    name = "against"
    by_machine = True
    other: Path
    """folder of the other checkout"""
    precision: str = "bfloat16"
    """float32 or bfloat16, for both"""
    threads: int = 1
    """number of threads of each"""

    def run(self) -> None:
        """Compare, print and write the results.

        Raises:
            ValueError: If ``other`` is no checkout, or a checkout cannot play.
        """
        if not (self.other / "genie_gym" / "__init__.py").is_file():
            raise ValueError(f"other must be the folder of a checkout with genie_gym in it, got {str(self.other)!r}")
        size = dict(_SIZES[self.preset])
        rows = [self._compare(count, size) for count in size.pop("num_envs")]
        sizes = {"other_commit": find_commit(self.other), "threads": self.threads, **size}
        self.write({"checkpoint": self.checkpoint, "precision": self.precision, **sizes, "by_envs": rows})

    def _compare(self, num_envs: int, size: dict[str, Any]) -> dict[str, Any]:
        """Play ``num_envs`` environments of both checkouts in turn."""
        torch.set_num_threads(self.threads)
        cpu = torch.device("cpu")
        matrix = multiplying(getattr(torch, self.precision), size["matrix"], cpu).work
        settings = {
            "checkpoint": str(find_checkpoint(self.checkpoint).absolute()),
            "num_envs": num_envs,
            "precision": self.precision,
            "maskgit_steps": load_world(self.checkpoint).sampling().maskgit_steps,
            "seed": self.seed,
        }
        command = [sys.executable, str(AGAINST_PLAYER), json.dumps(settings)]
        with ExitStack() as stack:
            players = {}
            for name, checkout in (("other", self.other), ("own", ROOT)):
                player = stack.enter_context(open_player(str(checkout), command, checkout, self.threads))
                package = player.ask({})["package"]
                if not Path(package).is_relative_to(checkout.resolve()):
                    raise ValueError(f"{str(checkout)!r} must play its own package, got {package!r}")
                players[name] = player
            frames = [_read_frames(player, size["frames"]) for player in players.values()]
            rounds, rates = [], []
            for number in range(size["rounds"]):
                rounds.append(ask_in_turn(players, size["seconds"], number))
                rates.append(matmul_tflops(size["matrix"], measure(matrix, size["seconds"], cpu)))
        row = {
            "num_envs": num_envs,
            **{name: take_medians([each[name] for each in rounds]) for name in players},
            "ratio": statistics.median(each["other"]["cpu_ms"] / each["own"]["cpu_ms"] for each in rounds),
            "matmul_tflops": statistics.median(rates),
            **compare_frames(*frames),
        }
        Console().print(row)
        return row


def _read_frames(player: PlayingProcess, count: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        player.ask({"frames": count, "path": str(path)})
        frames: np.ndarray = np.load(path)
    return frames


def compare_frames(other: np.ndarray, own: np.ndarray) -> dict[str, int]:
    """Count the frames (F, B, H, W, 3) uint8 of two checkouts that differ, their pixels, and the largest difference."""
    differs = other != own
    return {
        "frames": other.shape[0] * other.shape[1],
        "different_frames": int(differs.any(axis=(2, 3, 4)).sum()),
        "different_pixels": int(differs.any(axis=4).sum()),
        "largest_difference": int(np.abs(other.astype(int) - own).max()),
    }


def find_commit(checkout: Path) -> str | None:
    """Return the short hash of a checkout's commit; None if it is no git repository."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    tyro.cli(AgainstComparison).run()
