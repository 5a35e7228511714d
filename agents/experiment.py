"""The base of experiments with agents: methods by name, and resources that all rows of a mode share."""

import functools
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from tqdm import tqdm

from agents.acting import Agent, ClonedAgent
from agents.clone_store import CloneStore
from agents.demonstrations import Demonstrations
from agents.evaluation import LevelSet, choose_levels, count_solved, play_levels
from agents.labelling import digest_labels
from agents.mapping import Mapping as ActionMap
from agents.policy import LatentPolicy
from agents.windows import Footage
from genie_gym.configs import Mode
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.parallel import run_in_processes
from genie_gym.results.experiment import Row, VariantExperiment
from genie_gym.serving import load_world

Store = TypeVar("Store", bound=CloneStore)


@dataclass(frozen=True)
class MethodInputs(Generic[Store]):
    """The inputs from which a method builds its agent."""

    store: Store
    """Resources of the mode that is played."""
    seed: int
    """Seed of all of its choices."""
    levels: Sequence[int]
    """Levels that the agent will play, all at the same time."""
    labels: int | None = None
    """Number of labelled samples; all if None."""

    def play_policy(self, policy: LatentPolicy, mapping: ActionMap | None = None, random_share: float = 0) -> Agent:
        """Return an agent that plays the policy; arguments as for ``ClonedAgent``."""
        return ClonedAgent(policy, len(self.levels), self.seed, mapping, random_share, self.store.game)


@dataclass(frozen=True)
class Method(Generic[Store]):
    """One way to get an agent, which makes the rows of its name in a table of results."""

    name: str
    """Name in rows and options."""
    title: str
    """Words for the agent in a table."""
    build: Callable[[MethodInputs[Store]], Agent]
    """Function that builds the agent."""
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

        ``make``, a picklable function, makes and saves the resource of each of the distinct cells.
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
    methods: tuple[str, ...]
    """methods to run now; others can follow in a later run"""
    known_methods: ClassVar[Mapping[str, Method[Any]]]
    precision: ClassVar[str | None] = None
    """Precision of the world, as for ``load_world``."""

    @property
    @abstractmethod
    def size(self) -> Row:
        """The preset's sizes with those of the command line."""

    @abstractmethod
    def open(self, mode: Mode, footage: Footage | None = None) -> Store:
        """Return the store of a mode, made on first use, on top of ``footage`` if it is given."""

    def load(self) -> GenieWorldModel:
        """Return the checkpoint's world."""
        return load_world(self.checkpoint, self.device, self.precision)

    def plan_demonstrations(self, mode: Mode) -> Demonstrations:
        """Return the recordings of a mode, with the numbers of frames of ``size``; nothing is recorded yet."""
        out = self.run_folder / f"demonstrations-{mode}"
        numbers = {name: self.size[name] for name in ("frames", "labelled_frames")}
        return Demonstrations(out=out, mode=mode, player=self.player, seed=self.seed, workers=self.workers, **numbers)

    def describe_world(self) -> Row:
        """Return the settings that identify the checkpoint.

        Raises:
            ValueError: If a method is unknown.
        """
        if not set(self.methods) <= set(self.known_methods):
            raise ValueError(f"methods must be among {tuple(self.known_methods)}, got {self.methods}")
        return {"checkpoint": Path(self.checkpoint).name, "labels_of": digest_labels(self.load())}

    def finish_methods(self, cells: list[Row], settings: Row) -> list[Row]:
        """Finish the missing rows, in several processes after the resources that they share, and return all rows."""
        run = time.time_ns()  # each run opens its stores anew: their files may have changed
        if self.processes > 1:
            self._prepare(self.find_missing(cells, settings))
        return self.finish_rows(cells, settings, functools.partial(self.score, run), self.processes)

    def play(self, run: int, cell: Row) -> tuple[Agent, Row]:
        """Play a cell's agent in the run of that number, and return it with the levels that it solved."""
        store, levels = _open_last(self, cell["mode"], run), choose_levels(self.level_set, self.size["levels"])
        inputs = MethodInputs(store, cell["seed"], levels, cell.get("labels"))
        agent = self.known_methods[cell["method"]].build(inputs)
        return agent, count_solved(play_levels(agent, store.game, levels))

    @abstractmethod
    def score(self, run: int, cell: Row) -> Row:
        """Play a cell's agent in the run of that number, and return the rest of its row."""

    def record(self, cell: Row) -> None:
        """Make and save the recordings and labels of a mode."""
        self.open(cell["mode"]).prepare(cell["cloned"])

    def make_shared(self, footages: Mapping[Mode, Footage], cell: Row) -> None:
        """Make and save a clone or reward model, from ``footages`` if they hold its mode."""
        self.open(cell["mode"], footages.get(cell["mode"])).make_shared(cell["need"], cell["seed"])

    def _prepare(self, missing: list[Row]) -> None:
        """Make recordings and labels, then the clones and reward models that missing rows share."""
        stores = {mode: self.open(mode) for mode in dict.fromkeys(cell["mode"] for cell in missing)}
        needs = [
            (row["mode"], row["seed"], need) for row in missing for need in self.known_methods[row["method"]].needs
        ]
        shared: list[Row] = [
            {"mode": mode, "seed": seed, "need": need}
            for mode, seed, need in dict.fromkeys(needs)
            if stores[mode].lacks(need, seed)
        ]
        cloned = {cell["mode"] for cell in shared}
        self.make_apart(self.record, [{"mode": mode, "cloned": mode in cloned} for mode in stores])
        on_gpu: set[Mode] = set() if self.device == "cpu" else cloned  # CPU processes share a memory-mapped file
        footages = {mode: stores[mode].footage for mode in on_gpu}
        self.make_apart(functools.partial(self.make_shared, footages), shared)


@functools.lru_cache(maxsize=1)
def _open_last(experiment: MethodExperiment[Store], mode: Mode, run: int) -> Store:
    """Open the store of a mode, and keep it in memory, gigabytes, until another mode or ``run`` is opened."""
    return experiment.open(mode)
