"""Does a long session grow? Resident memory of the process over thousands of steps of one environment.

python -m experiments.table_memory
"""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from genie_gym.bench.machine import resident_memory
from genie_gym.envs import zero_rewards
from genie_gym.envs.genie_env import GenieEnv
from genie_gym.results.files import write_results


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Play on and on."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    env_steps: tuple[int, ...] = (100, 1_000, 5_000, 10_000)
    """When to look."""
    seed: int = 0
    """Of the start and the actions."""
    json: Path = Path("experiments/results/memory.json")
    """File of results."""

    def run(self) -> None:
        """Play, print, write."""
        env = GenieEnv(checkpoint=self.checkpoint, reward_fn=zero_rewards)
        env.reset(seed=self.seed)
        env.action_space.seed(self.seed)
        resident = {}
        for step in range(1, max(self.env_steps) + 1):
            env.step(env.action_space.sample())
            if step in self.env_steps:
                resident[str(step)] = resident_memory()
                Console().print(f"{step} steps: {resident[str(step)]:.1f} MB")
        write_results(self.json, {"checkpoint": self.checkpoint, "seed": self.seed, "resident_mb": resident})


if __name__ == "__main__":
    tyro.cli(Memory).run()
