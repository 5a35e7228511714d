"""Trials of how to clone and to play, on validation levels: the settings of ``agents.benchmark`` are chosen by them.

    python -m agents.cloning_trials --preset full

Each row is one change of the benchmark's settings for one method, with the levels of the core that it solves at several
temperatures. Recordings, labels and unchanged clones are those of the benchmark, and are shared with it. Unchanged
clones play for all seeds of the benchmark, a changed one is trained for one seed.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.benchmark import Benchmark
from agents.clone_store import CloneStore
from agents.config import Playing
from agents.evaluation import count_outcomes, play_levels
from agents.experiment import AgentExperiment, MethodInputs
from agents.game import GameName
from agents.methods import CLONING_METHODS
from genie_gym.config_io import vary
from genie_gym.failures import run_command
from genie_gym.results.experiment import Row

TEMPERATURES = (0.25, 0.5, 0.7, 1.0)
"""Temperatures at which every clone plays."""
_CLONED, _RELABELLED = ("oracle", "lam", "lam_relabel", "idm_relabel"), ("lam_relabel", "idm_relabel")

_SHARED = ("preset", "out", "work", "seed", "device", "checkpoint", "workers")
"""Options that are those of the benchmark."""


class Trial(NamedTuple):
    """A change of the benchmark's settings, and the methods that it is tried for."""

    methods: tuple[str, ...]
    """Names of the methods."""
    changes: dict[str, Any]
    """New values of fields of ``CloningConfig`` by dotted path."""
    batches: float = 1.0
    """Number of training batches, as a share of the benchmark's."""

    @property
    def changes_clones(self) -> bool:
        """Whether its clones differ from the benchmark's, which are there for all seeds and cost no training."""
        return bool(self.changes) or self.batches != 1


TRIALS = {
    "as in the table": Trial(_CLONED, {}),
    "past actions hidden": Trial(("oracle", "lam_relabel"), {"policy.sees_actions": False}),
    "half of the batches": Trial(("oracle", "lam_relabel"), {}, 0.5),
    "windows shifted by up to 2 pixels": Trial(("oracle",), {"random_shift": 2}),
    "half of the learning rate": Trial(("oracle",), {"training.optimizer.learning_rate": 5e-4}),
    "twice the learning rate": Trial(("oracle",), {"training.optimizer.learning_rate": 2e-3}),
    "the last two frames": Trial(("oracle",), {"policy.context_length": 2, "training.clip_length": 2}),
    "wider network": Trial(("oracle",), {"policy.widths": (24, 48, 48), "policy.features": 384}),
    "decoder alone, without posteriors": Trial(_RELABELLED, {"decoder_share": 1.0}),
    "decoder's share 1/20": Trial(("lam_relabel",), {"decoder_share": 1 / 20}),
    "latent actions not predicted": Trial(("lam_relabel",), {"predicts_latents": ()}),
    "latent actions predicted too": Trial(("oracle",), {"predicts_latents": ("oracle", "lam_relabel")}),
}
"""Trials by the name in the table."""


@dataclass(frozen=True, kw_only=True)
class CloningTrials(AgentExperiment):
    """Clone with changed settings, and play validation levels at several temperatures."""

    name = "cloning_trials"
    modes: tuple[GameName, ...] | None = None
    """modes to run now, by default all modes of the preset"""
    trials: tuple[str, ...] = tuple(TRIALS)
    """trials to run now; others can follow in a later run"""

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark whose settings are changed, on validation levels."""
        return Benchmark(level_set="validation", modes=self.modes, **{name: getattr(self, name) for name in _SHARED})

    def run(self) -> None:
        """Finish the missing rows and print all of them.

        Raises:
            ValueError: If a trial or a mode is unknown.
        """
        benchmark, cells = self.benchmark, self.list_cells()
        settings = benchmark.describe_settings()
        settings = {name: settings[name] for name in settings if name not in ("temperature", "random_share")}
        if missing := self.find_missing(cells, settings):
            wanted = list(dict.fromkeys(cell["mode"] for cell in missing))
            self.make_apart(benchmark.record, [{"mode": mode, "cloned": True} for mode in wanted])
        for row in self.finish_rows(cells, settings, functools.partial(self.measure, benchmark), self.processes):
            print({name: row[name] for name in ("mode", "trial", "method", "seed", "core_levels", "core_solved")})

    def list_cells(self) -> list[Row]:
        """Return a cell for every row of the trials and modes to run now.

        Raises:
            ValueError: If a trial or a mode is unknown.
        """
        if not set(self.trials) <= set(TRIALS):
            raise ValueError(f"trials must be among {tuple(TRIALS)}, got {self.trials}")
        modes = dict.fromkeys(cell["mode"] for cell in self.benchmark.list_cells())
        return [
            {"mode": mode, "trial": name, "method": method, "seed": seed}
            for mode in modes
            for name in self.trials
            for method in TRIALS[name].methods
            for seed in self._list_seeds(TRIALS[name])
        ]

    def _list_seeds(self, trial: Trial) -> range:
        return range(self.seed, self.seed + (1 if trial.changes_clones else self.benchmark.size["seeds"]))

    def measure(self, benchmark: Benchmark, cell: Row) -> Row:
        """Clone a cell's policy if it is missing, and return what it solves at each temperature."""
        mode, trial, method = cell["mode"], TRIALS[cell["trial"]], CLONING_METHODS[cell["method"]]
        store, core = change_store(benchmark.open(mode), cell["trial"]), benchmark.core(mode)
        levels, labels = benchmark.choose_levels(mode), method.list_labels([store.relabel_samples])[0]
        hard = core.seeds[: benchmark.size["core_levels"]]
        if not trial.changes_clones and store.lacks(method.name, cell["seed"]):  # the benchmark's, and so are its costs
            benchmark.make_shared({}, {"mode": mode, "seed": cell["seed"], "need": method.name})
        solved, core_solved = {}, {}
        for temperature in TEMPERATURES:
            playing = Playing(temperature=temperature)
            inputs = MethodInputs(store, cell["seed"], levels, labels, playing=playing)
            outcome = play_levels(method.build(inputs), store.game, levels)
            found = count_outcomes(outcome, levels, levels[: benchmark.size["levels"]], hard)
            solved[str(temperature)], core_solved[str(temperature)] = found["solved"], found["core_solved"]
        counts = {"levels": benchmark.size["levels"], "core_levels": len(hard)}
        return {
            "changes": trial.changes,
            "batches": store.config.training.train_steps,
            **counts,
            "solved": solved,
            "core_solved": core_solved,
        }


def change_store(store: CloneStore, name: str) -> CloneStore:
    """Return a store of the same recordings and labels whose clones are those of a trial, saved in its own folder."""
    trial = TRIALS[name]
    if not trial.changes_clones:
        return store
    steps = round(trial.batches * store.config.training.train_steps)
    config = vary(store.config, {**trial.changes, "training.train_steps": steps})
    return store.with_clones(config, store.clones / "trials" / re.sub(r"\W+", "-", name))


if __name__ == "__main__":
    run_command(CloningTrials)
