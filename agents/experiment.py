"""Base classes of experiments with agents: methods by name, and resources shared by all rows of one game mode."""

import functools
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from tqdm import tqdm

from agents.acting import Agent, ClonedAgent
from agents.clone_store import CloneStore
from agents.config import CHOSEN, PAPERS_LABELS, SAMPLED, Playing
from agents.core_levels import Core, cache_core
from agents.costs import CostLog, describe_costs
from agents.demonstrations import Demonstrations
from agents.evaluation import LevelSet, choose_levels, count_outcomes, play_levels
from agents.game import Game, GameName, make_game
from agents.labelling import digest_labels
from agents.mapping import Mapping as ActionMap
from agents.policy import LatentPolicy
from agents.windows import Footage
from genie_gym.checks import require
from genie_gym.config_io import to_dict
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.parallel import run_in_processes
from genie_gym.results.experiment import Row, VariantExperiment
from genie_gym.serving import load_world

Store = TypeVar("Store", bound=CloneStore)
_Actions = dict[tuple[Any, ...], list[int]]
"""How often each real action was played, by mode, method, labels and seed of the row."""


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
    best_constant: int = 0
    """The action that solves the most validation levels of the mode when it is held."""
    twin_actions: Sequence[int] | None = None
    """Counts of the real actions that the method of a blind twin played; None for other methods."""
    playing: Playing = SAMPLED
    """Temperature and share of random actions of all cloned policies."""

    def play_policy(self, policy: LatentPolicy, mapping: ActionMap | None = None) -> Agent:
        """Return an agent that plays the policy on all levels; the arguments are those of ``ClonedAgent``."""
        return ClonedAgent(policy, len(self.levels), self.seed, mapping, self.playing, self.store.game)


def choose_papers_labels(numbers: Sequence[int]) -> int:
    """Return the paper's number of labelled samples if it is among the ascending ``numbers``, else their last."""
    return PAPERS_LABELS if PAPERS_LABELS in numbers else numbers[-1]


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
    kind: Literal["sighted", "blind", "constant"] = "sighted"
    """Whether it looks at frames (``sighted``), draws its actions without (``blind``), or holds one (``constant``)."""
    budgets: Literal["none", "paper", "each"] = "none"
    """Numbers of labelled samples it has rows for: ``none`` (it uses none or all), the ``paper``'s 200, or ``each``."""
    is_blind_to_latents: bool = False
    """Whether its rows are the same for any latent action model, so that ``--baselines`` can take them over."""
    has_one_seed: bool = False
    """Whether it has a row for the first seed only, since it is the same for all or slow."""
    colour: str | None = None
    """Matplotlib colour of its curve, drawn in the order of colours; not drawn if None."""
    plays: Callable[[Game], bool] = lambda game: True
    """Function that tells whether it can play a game; it has no rows in others."""
    twin_of: str | None = None
    """Name of the method whose shares of actions it draws from; its rows are played after that method's."""

    def list_labels(self, numbers: Sequence[int]) -> list[int | None]:
        """Return the number of labelled samples of each of its rows, chosen from the preset's ascending ``numbers``."""
        choices: dict[str, list[int | None]] = {
            "none": [None],
            "paper": [choose_papers_labels(numbers)],
            "each": [*numbers],
        }
        return choices[self.budgets]


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
        """Make, in ``processes`` processes, the resources that several rows share, each of them in a single process.

        ``cells``, all distinct, identify the resources; the picklable function ``make`` makes and saves the resource of
        one cell.
        """
        threads = max(1, torch.get_num_threads() // self.processes)
        here = ((cell, make(cell)) for cell in cells)
        for cell, _ in here if self.processes == 1 else run_in_processes(make, cells, self.processes, threads):
            tqdm.write(f"{self.name}: made a shared resource: {cell}")


@dataclass(frozen=True, kw_only=True)
class MethodExperiment(AgentExperiment, Generic[Store]):
    """An experiment with a row for each mode, method and seed; all rows of a mode use the same store."""

    player: str = "skilled"
    """spec of the player in the videos, as for ``genie-gym record``"""
    level_set: LevelSet = "test"
    """set of levels to play: ``validation`` to choose settings, ``test`` for published tables"""
    methods: tuple[str, ...]
    """methods to run now; others can follow in a later run"""
    playing: Playing = CHOSEN
    """settings by which all cloned policies choose actions"""
    known_methods: ClassVar[Mapping[str, Method[Any]]]
    precision: ClassVar[str | None] = None
    """Precision of the world, as for ``load_world``; None for the checkpoint's."""

    @property
    @abstractmethod
    def size(self) -> Row:
        """Sizes of the preset, some of them replaced by options of the command line."""

    @abstractmethod
    def open(self, mode: GameName, footage: Footage | None = None) -> Store:
        """Return a new store of a mode; it uses ``footage``, the videos' frames in memory, if given."""

    def load(self) -> GenieWorldModel:
        """Return the checkpoint's world."""
        return load_world(self.checkpoint, self.device, self.precision)

    def plan_demonstrations(self, mode: GameName) -> Demonstrations:
        """Return the plan of a mode's recordings, with the numbers of frames in ``size``; nothing is recorded yet."""
        out = self.run_folder / f"demonstrations-{mode}"
        numbers = {name: self.size[name] for name in ("frames", "labelled_frames")}
        return Demonstrations(out=out, mode=mode, player=self.player, seed=self.seed, workers=self.workers, **numbers)

    @property
    def costs(self) -> CostLog:
        """Return the log of processor seconds by stage; a killed run's finished stages stay in it."""
        return CostLog(self.run_folder / "cpu_seconds.jsonl")

    def write(self, results: Row) -> None:
        """Write the results with the processor seconds spent so far, by stage."""
        super().write({**results, "cpu_seconds": self.costs.sum_stages()})

    def require_known_methods(self) -> None:
        """Raise a ValueError if the option ``methods`` holds an unknown name."""
        if not set(self.methods) <= set(self.known_methods):
            raise ValueError(f"methods must be among {tuple(self.known_methods)}, got {self.methods}")

    def describe_world(self) -> Row:
        """Return the settings that identify the checkpoint in a results file."""
        return {"checkpoint": Path(self.checkpoint).name, "labels_of": digest_labels(self.load())}

    def describe_settings(self, **others: Any) -> Row:
        """Return the settings that all rows share, and ``others``; the core of each mode is found if it is missing."""
        modes: list[GameName] = self.size["modes"]
        self.make_apart(self.make_core, [{"mode": mode} for mode in modes if not self._core_file(mode).exists()])
        cores = {mode: self.core(mode)._asdict() for mode in modes}
        shared = {"player": self.player, "level_set": self.level_set, "cores": cores, **to_dict(self.playing)}
        return {**self.size, **self.describe_world(), **shared, **others}

    def core(self, mode: GameName) -> Core:
        """Return a mode's core, which is found first if it is missing, and saved."""
        return cache_core(make_game(mode), self.level_set, self.size["core_among"], self._core_file(mode))

    def choose_levels(self, mode: GameName) -> list[int]:
        """Return the seeds of the levels that every method plays: the first of the set, then those of the core."""
        return list(dict.fromkeys((*self._every_level, *self._hard_levels(mode))))

    def make_core(self, cell: Row) -> None:
        """Find and save the core of a cell's mode."""
        with self.costs.measure("core", **cell):
            self.core(cell["mode"])

    def list_labels(self, method: Method[Any]) -> list[int | None]:
        """Return the number of labelled samples of each row of a method, None where it uses none or all."""
        return method.list_labels(self.size["labels"])

    def list_method_cells(self, modes: Iterable[GameName]) -> list[Row]:
        """Return a cell for every row: one mode after the other, and within it one seed after the other.

        Raises:
            ValueError: If none of the methods can play a mode's game.
        """
        cells: list[Row] = []
        for mode in modes:
            playing = self._find_playing(mode)
            for has_one_seed in (True, False):
                wanted: list[Row] = [
                    {"mode": mode, "player": self.player, "method": name, "labels": labels}
                    for name, method in playing.items()
                    if method.has_one_seed == has_one_seed
                    for labels in self.list_labels(method)
                ]
                cells += self.repeat_over_seeds(wanted, 1 if has_one_seed else self.size["seeds"])
        return cells

    def _find_playing(self, mode: GameName) -> dict[str, Method[Any]]:
        """Return the methods to run that can play a mode's game, and print the others."""
        wanted = {name: method for name, method in self.known_methods.items() if name in self.methods}
        playing = {name: method for name, method in wanted.items() if method.plays(make_game(mode))}
        require(bool(playing) or not wanted, "methods", self.methods, f"one or more that can play {mode}")
        if others := [name for name in wanted if name not in playing]:
            print(f"{self.name}: {mode} is not played by {', '.join(others)}")
        return playing

    def finish_methods(self, cells: list[Row], settings: Row) -> list[Row]:
        """Compute the missing rows and return all rows: shared resources first, and blind twins last.

        Raises:
            ValueError: If a blind twin is wanted, but not the method that it is the twin of.
        """
        run = time.time_ns()  # each run opens its stores anew: their files may have changed
        originals = {name: method.twin_of for name, method in self.known_methods.items() if method.twin_of}
        own = [cell for cell in cells if cell["method"] not in originals]
        twins = [cell for cell in cells if cell["method"] in originals]
        needed = self.find_missing([{**twin, "method": originals[twin["method"]]} for twin in twins], settings)
        if unplanned := [cell["method"] for cell in needed if cell not in own]:
            raise ValueError(f"methods must include {unplanned[0]!r} too, whose blind twin draws as it plays")
        self._prepare(self.find_missing(own, settings))
        rows = self.finish_rows(own, settings, functools.partial(self.score, run, {}), self.processes)
        played: _Actions = {_identify(row): row["actions"] for row in rows}
        rows = self.finish_rows(twins, settings, functools.partial(self.score, run, played), self.processes)
        print(f"{self.name}: {describe_costs(self.costs.sum_stages())}")
        return rows

    def play(self, run: int, played: _Actions, cell: Row) -> tuple[Agent, Row]:
        """Build a cell's agent from the stores of ``run``; return it, and its outcomes (``count_outcomes``)."""
        mode, method, core = cell["mode"], self.known_methods[cell["method"]], self.core(cell["mode"])
        levels = self.choose_levels(mode)
        store, original = _open_last(self, mode, run), {**cell, "method": method.twin_of}
        actions = played[_identify(original)] if method.twin_of else None
        inputs = MethodInputs(store, cell["seed"], levels, cell["labels"], core.best_constant, actions, self.playing)
        with self.costs.measure("training", **cell):
            agent = method.build(inputs)
        with self.costs.measure("playing", **cell):
            outcome = play_levels(agent, store.game, levels)
        every, hard = self._every_level, self._hard_levels(mode)
        return agent, count_outcomes(outcome, levels, every, hard)

    @abstractmethod
    def score(self, run: int, played: _Actions, cell: Row) -> Row:
        """Play a cell's agent, built from the stores of ``run``, and return the rest of the cell's row.

        ``played`` are the actions of the rows that blind twins draw from.
        """

    def record(self, cell: Row) -> None:
        """Make and save the recordings and labels of a cell's mode."""
        store = self.open(cell["mode"])
        with self.costs.measure("recording", **cell):
            store.recordings.record_labelled()
            if cell["cloned"]:
                store.recordings.record_videos()
        with self.costs.measure("labelling", **cell):
            store.prepare(cell["cloned"])

    def make_shared(self, footages: Mapping[GameName, Footage], cell: Row) -> None:
        """Make and save a cell's clone or reward model, from the frames of its mode if ``footages`` holds them."""
        with self.costs.measure("training", **cell):
            self.open(cell["mode"], footages.get(cell["mode"])).make_shared(cell["need"], cell["seed"])

    @property
    def _every_level(self) -> list[int]:
        return choose_levels(self.level_set, self.size["levels"])

    def _hard_levels(self, mode: GameName) -> list[int]:
        return self.core(mode).seeds[: self.size["core_levels"]]

    def _core_file(self, mode: GameName) -> Path:
        return self.run_folder / f"core-{mode}-{self.level_set}-{self.size['core_among']}.json"

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
        on_gpu: set[GameName] = set() if self.device == "cpu" else cloned  # CPU processes share a memory-mapped file
        footages = {mode: stores[mode].footage for mode in on_gpu}
        self.make_apart(functools.partial(self.make_shared, footages), shared)


@functools.lru_cache(maxsize=1)
def _open_last(experiment: MethodExperiment[Store], mode: GameName, run: int) -> Store:
    """Return the store of a mode; it stays in memory, gigabytes of it, until another mode or ``run`` is opened."""
    return experiment.open(mode)


def _identify(cell: Row) -> tuple[Any, ...]:
    return cell["mode"], cell["method"], cell["labels"], cell["seed"]
