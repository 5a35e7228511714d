"""The base of experiments with agents: methods by name, and resources that all rows of a mode share."""

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from tqdm import tqdm

from agents.demonstrations import Demonstrations
from agents.evaluation import LevelSet
from genie_gym.configs import Mode
from genie_gym.parallel import run_in_processes
from genie_gym.results.experiment import Row, VariantExperiment

Inputs = ParamSpec("Inputs")
Built = TypeVar("Built")
Store = TypeVar("Store")


@dataclass(frozen=True)
class Method(Generic[Inputs, Built]):
    """One way to get an agent, which makes the rows of its name in a table of results."""

    name: str
    title: str
    """Words for the agent in a table."""
    build: Callable[Inputs, Built]
    """Function that builds the agent."""
    _: KW_ONLY
    needs: tuple[str, ...] = ()
    """Names of clones or reward models, made first, that several methods share."""


@dataclass(frozen=True, kw_only=True)
class AgentExperiment(VariantExperiment):
    """An experiment whose rows can be made in several processes, after the resources that they share."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a folder"""
    workers: int = 1
    """number of recording processes"""
    processes: int = 1
    """number of processes that train and play, gigabytes each at ``full``"""

    def make_apart(self, make: Callable[[Row], object], cells: Iterable[Row]) -> None:
        """Make resources that several rows share, so that no two processes make the same one.

        Args:
            make: Function that makes a cell's resource and saves it; picklable.
            cells: Distinct cells, one for each resource.
        """
        threads = max(1, torch.get_num_threads() // self.processes)
        for cell, _ in run_in_processes(make, cells, self.processes, threads):
            tqdm.write(f"{self.name}: made what rows share: {cell}")


@dataclass(frozen=True, kw_only=True)
class MethodExperiment(AgentExperiment, Generic[Store]):
    """An experiment with a row for each mode, method and seed, whose rows of one mode share a store."""

    player: str = "expert"
    """spec of the player in the videos, as for ``genie-gym record``"""
    level_set: LevelSet = "test"
    """set of levels to play: ``validation`` to choose settings, ``test`` for published tables"""

    def plan_demonstrations(self, mode: Mode, size: Row) -> Demonstrations:
        """Return the recordings of a mode, with ``size``'s numbers of frames; nothing is recorded yet."""
        return Demonstrations(
            out=self.run_folder / f"demonstrations-{mode}",
            mode=mode,
            player=self.player,
            frames=size["frames"],
            labelled_frames=size["labelled_frames"],
            seed=self.seed,
            workers=self.workers,
        )

    @abstractmethod
    def open(self, mode: Mode) -> Store:
        """Return the store of a mode; its resources are made on first use."""

    @staticmethod
    def require_methods(names: tuple[str, ...], known: Mapping[str, Any]) -> None:
        """Raise a ValueError unless all names are known."""
        if not set(names) <= set(known):
            raise ValueError(f"methods must be among {tuple(known)}, got {names}")


class LastStore(Generic[Store]):
    """Opens the store of a mode, and keeps it in memory, gigabytes, until another mode's is opened.

    Sent to a worker process, it arrives empty; the process then keeps it for all its tasks.
    """

    def __init__(self, experiment: MethodExperiment[Store]) -> None:
        self._experiment = experiment
        self._opened: dict[Mode, Store] = {}

    def open(self, mode: Mode) -> Store:
        """Return the mode's store."""
        if mode not in self._opened:
            self._opened.clear()  # before the next one takes memory
            self._opened[mode] = self._experiment.open(mode)
        return self._opened[mode]

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._experiment,)


@functools.lru_cache(maxsize=1)
def _arrive(experiment: MethodExperiment[Store]) -> LastStore[Store]:
    return LastStore(experiment)
