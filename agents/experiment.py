"""Base classes of experiments with agents: methods by name, and resources shared by all rows of one game mode."""

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
from agents.config import SAMPLED, Playing
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
    """Recordings, clones and mappings of the mode that is played."""
    seed: int
    """Seed of the agent, and of the clones and samples it is made from."""
    levels: Sequence[int]
    """Seeds of the levels that the agent will play, all at the same time."""
    labels: int | None = None
    """Number of labelled samples the method may use; None for methods that use none or all."""
    playing: Playing = SAMPLED
    """Temperature and share of random actions of all cloned policies."""

    def play_policy(self, policy: LatentPolicy, mapping: ActionMap | None = None) -> Agent:
        """Return an agent that plays the policy on all levels; the arguments are those of ``ClonedAgent``."""
        return ClonedAgent(policy, len(self.levels), self.seed, mapping, self.playing, self.store.game)


@dataclass(frozen=True)
class Method(Generic[Store]):
    """One way to get an agent; a table of results has rows for each method."""

    name: str
    """Name of the method in result files and options."""
    title: str
    """Description of the agent in a published table."""
    build: Callable[[MethodInputs[Store]], Agent]
    """Function that builds the agent."""
    needs: tuple[str, ...] = ()
    """Names of the clones and reward models it uses that are made beforehand, since methods share them."""


@dataclass(frozen=True, kw_only=True)
class AgentExperiment(VariantExperiment):
    """An experiment that can compute its rows in several processes, once the resources they share are made."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a folder"""
    workers: int = 1
    """number of recording processes"""
    processes: int = 1
    """number of processes that train and play, each of which needs gigabytes of memory at ``full``"""

    def make_apart(self, make: Callable[[Row], object], cells: Iterable[Row]) -> None:
        """Make, in parallel, the resources that several rows share, each of them in a single process.

        ``cells``, all distinct, identify the resources; the picklable function ``make`` makes and saves the resource of
        one cell.
        """
        threads = max(1, torch.get_num_threads() // self.processes)
        for cell, _ in run_in_processes(make, cells, self.processes, threads):
            tqdm.write(f"{self.name}: made a shared resource: {cell}")


@dataclass(frozen=True, kw_only=True)
class MethodExperiment(AgentExperiment, Generic[Store]):
    """An experiment with a row for each mode, method and seed; all rows of a mode use the same store."""

    player: str = "expert"
    """spec of the player in the videos, as for ``genie-gym record``"""
    level_set: LevelSet = "test"
    """set of levels to play: ``validation`` to choose settings, ``test`` for published tables"""
    methods: tuple[str, ...]
    """methods to run now; others can follow in a later run"""
    playing: Playing = SAMPLED
    """settings by which all cloned policies choose actions"""
    known_methods: ClassVar[Mapping[str, Method[Any]]]
    precision: ClassVar[str | None] = None
    """Precision of the world, as for ``load_world``; None for the checkpoint's."""

    @property
    @abstractmethod
    def size(self) -> Row:
        """Sizes of the preset, some of them replaced by options of the command line."""

    @abstractmethod
    def open(self, mode: Mode, footage: Footage | None = None) -> Store:
        """Return a new store of a mode; it uses ``footage``, the videos' frames in memory, if given."""

    def load(self) -> GenieWorldModel:
        """Return the checkpoint's world."""
        return load_world(self.checkpoint, self.device, self.precision)

    def plan_demonstrations(self, mode: Mode) -> Demonstrations:
        """Return the plan of a mode's recordings, with the numbers of frames in ``size``; nothing is recorded yet."""
        out = self.run_folder / f"demonstrations-{mode}"
        numbers = {name: self.size[name] for name in ("frames", "labelled_frames")}
        return Demonstrations(out=out, mode=mode, player=self.player, seed=self.seed, workers=self.workers, **numbers)

    def require_known_methods(self) -> None:
        """Raise a ValueError if the option ``methods`` holds an unknown name."""
        if not set(self.methods) <= set(self.known_methods):
            raise ValueError(f"methods must be among {tuple(self.known_methods)}, got {self.methods}")

    def describe_world(self) -> Row:
        """Return the settings that identify the checkpoint in a results file."""
        return {"checkpoint": Path(self.checkpoint).name, "labels_of": digest_labels(self.load())}

    def finish_methods(self, cells: list[Row], settings: Row) -> list[Row]:
        """Compute the missing rows and return all rows; several processes make shared resources first."""
        run = time.time_ns()  # each run opens its stores anew: their files may have changed
        if self.processes > 1:
            self._prepare(self.find_missing(cells, settings))
        return self.finish_rows(cells, settings, functools.partial(self.score, run), self.processes)

    def play(self, run: int, cell: Row) -> tuple[Agent, Row]:
        """Build a cell's agent from the stores of ``run``; return it, and the levels it solved (``count_solved``)."""
        store, levels = _open_last(self, cell["mode"], run), choose_levels(self.level_set, self.size["levels"])
        inputs = MethodInputs(store, cell["seed"], levels, cell.get("labels"), self.playing)
        agent = self.known_methods[cell["method"]].build(inputs)
        return agent, count_solved(play_levels(agent, store.game, levels))

    @abstractmethod
    def score(self, run: int, cell: Row) -> Row:
        """Play a cell's agent, built from the stores of ``run``, and return the rest of the cell's row."""

    def record(self, cell: Row) -> None:
        """Make and save the recordings and labels of a cell's mode."""
        self.open(cell["mode"]).prepare(cell["cloned"])

    def make_shared(self, footages: Mapping[Mode, Footage], cell: Row) -> None:
        """Make and save a cell's clone or reward model, from the frames of its mode if ``footages`` holds them."""
        self.open(cell["mode"], footages.get(cell["mode"])).make_shared(cell["need"], cell["seed"])

    def _prepare(self, missing: list[Row]) -> None:
        """Make the recordings and labels of missing rows, then the clones and reward models that they share."""
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
    """Return the store of a mode; it stays in memory, gigabytes of it, until another mode or ``run`` is opened."""
    return experiment.open(mode)
