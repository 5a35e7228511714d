"""What experiments with agents share: the world, and work in several processes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from genie_gym.parallel import work_apart
from genie_gym.results.experiment import Row, VariantExperiment


@dataclass(frozen=True, kw_only=True)
class AgentExperiment(VariantExperiment):
    """One whose rows can be made in processes of their own, once there is what several of them share."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    workers: int = 1
    """Processes that record."""
    processes: int = 1
    """Those that train and play after that, gigabytes each at ``full``; for many cores or a GPU."""

    def make_apart(self, make: Callable[[Row], object], cells: Iterable[Row]) -> None:
        """Make what several rows share, so that no two processes will make the same.

        Args:
            make: Makes what a cell names, and keeps it on disk; picklable.
            cells: Of shared things, no two the same.
        """
        threads = max(1, torch.get_num_threads() // self.processes)
        for cell, _ in work_apart(make, cells, self.processes, threads):
            tqdm.write(f"{self.name}: made what rows share of {cell}")
