"""The paper's figure 15 as a table: levels solved by a policy that learned from videos and a few labelled samples.

    python -m agents.benchmark --preset full

Demonstrations, labels, clones and scores of easy and hard CoinRun. Every stage goes on where an earlier call stopped.
Methods, all on the same levels:

    lam            cloned from latent actions of videos; ``labels`` real actions map them (``ActionMapping``)
    lam_majority   the same with each latent action's most frequent real one
    lam_features   the same with a mapping that also sees the policy's features
    lam_oracle_map the same with a mapping from all labelled games: what is lost to few samples, and what before them
    expert_latents the player itself, whose actions go into latent ones and out again by all labelled games: what the
                   code loses, without a clone
    expert_seen_latents the player through the latent action that is seen in what its action leads to, one step ahead
                   in a game beside the one played: the same without the first of its two blind draws
    oracle         the same network and budget on the videos' real actions, 10 % random actions when it plays
    labelled_only  the same network on the ``labels`` samples alone
    marginal       draws from the ``labels`` samples' real actions, whatever the frame shows
    random, expert who acts uniformly, and who played in the videos
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from agents.acting import Agent, BlindPlayer, ClonedAgent, PlayerAgent, SeenThroughLatents, ThroughLatents
from agents.arena import Arena
from agents.config import POLICIES, CloningConfig, PolicyName
from agents.demonstrations import Demonstrations
from agents.evaluation import LevelSet, Mode, choose_levels, count_solved, gather_seeds, play_levels
from agents.experiment import AgentExperiment
from agents.labelling import digest_labels
from agents.mapping import ActionMapping, Mapping
from agents.windows import Footage
from genie_gym.configs import RecordConfig
from genie_gym.data.procgen import open_levels
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import load_player, parse_share
from genie_gym.results.experiment import Row
from genie_gym.serving import load_world

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "modes": ["easy"],
        "frames": 4096,
        "labelled_frames": 2048,
        "labels": [16, 64],
        "seeds": 1,
        "levels": 3,
        "train_steps": 10,
        "batch_size": 64,
        "labelled_steps": 5,
    },
    "full": {
        "modes": ["easy", "hard"],
        "frames": 1_000_000,
        "labelled_frames": 20_000,
        "labels": [16, 32, 64, 128, 200, 512, 1024],
        "seeds": 5,
        "levels": 100,
        "train_steps": 4000,
        "batch_size": 512,
        "labelled_steps": 300,
    },
}
"""``labelled_steps``: small batches of ``labelled_only``, which has soon seen its samples often enough."""
PAPERS_LABELS = 200
"""With so many samples the paper's policy equals the oracle."""
METHODS = (
    "random",
    "expert",
    "oracle",
    "lam",
    "labelled_only",
    "lam_majority",
    "lam_features",
    "marginal",
    "lam_oracle_map",
    "expert_latents",
    "expert_seen_latents",
)
CLONED = {"oracle": "oracle", **{method: "lam" for method in METHODS if method.startswith("lam")}}
"""Whose clone of the videos a method plays."""
BLIND_TO_LATENTS = ("random", "expert", "oracle", "labelled_only", "marginal")
"""Methods whose rows are the same whatever model labels."""
LABELLED_BY = ("checkpoint", "labels_of")
"""Settings that tell which does."""
KEYS = ("mode", "method", "labels")
"""That rows of results differ in, but for their seeds."""
FIGURE = ("lam", "oracle", "labelled_only", "marginal", "random", "expert")
"""Methods that are drawn."""
RANDOM_SHARE = 0.1
"""Of the oracle's actions (Genie, appendix E)."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(AgentExperiment):
    """Record, label with the checkpoint's latent action model, clone, map, play."""

    player: str = "expert"
    """Spec of who plays in the videos, as ``genie-gym record`` takes it."""
    policy: PolicyName = "impala"
    """``impala`` for a few CPU cores, ``impala-procgen`` for a GPU, ``st-vivit`` as in the paper."""
    level_set: LevelSet = "test"
    """Whose levels are played: what is chosen by them is chosen on ``validation``, ``test`` is for the table."""
    methods: tuple[str, ...] = METHODS
    """Those wanted now; the others later."""
    modes: tuple[Mode, ...] | None = None
    """Those wanted now; all of the preset where not given."""
    baselines: Path | None = None
    """Results with another latent action model: rows of methods that see no latent action are taken from there."""

    @property
    def name(self) -> str:
        return "figure15_cloning"

    def run(self) -> None:
        """Finish the rows that are missing, then draw.

        Raises:
            ValueError: If a method is not known, a mode not the preset's, or the baselines' settings are others.
        """
        size = SIZES[self.preset]
        if not set(self.methods) <= set(METHODS):
            raise ValueError(f"methods must be among {METHODS}, got {self.methods}")
        if self.modes is not None and not (self.modes and set(self.modes) <= set(size["modes"])):
            raise ValueError(f"modes must be among {size['modes']}, one or more, got {self.modes}")
        world = self._load()
        settings = {
            **size,
            "checkpoint": Path(self.checkpoint).name,
            "labels_of": digest_labels(world),
            "player": self.player,
            "policy": self.policy,
            "level_set": self.level_set,
        }
        cells = self.list_cells(size)
        if self.baselines is not None:
            blind = [cell for cell in cells if cell["method"] in BLIND_TO_LATENTS]
            self.copy_rows(self.baselines, blind, settings, LABELLED_BY)
        if self.processes > 1:
            self._prepare(self.find_missing(cells, settings))
        rows = self.finish_rows(cells, settings, self.score, self.processes)
        open_arena.cache_clear()
        draw_figure(rows, self.picture)

    def score(self, cell: Row) -> Row:
        """The rest of a cell's row."""
        levels = choose_levels(self.level_set, SIZES[self.preset]["levels"])
        agent, mapping = self._build(cell, open_arena(self, cell["mode"]), levels)
        outcome = play_levels(agent, cell["mode"], levels)
        row = count_solved(outcome)
        if isinstance(mapping, ActionMapping):
            row |= {"unseen_latents": len(mapping.unseen), "fallbacks": mapping.fallbacks}
            row |= dict(zip(("bits", "bits_given_latent"), mapping.entropies(), strict=True))
        return row

    def prepare(self, cell: Row) -> None:
        """What all rows of a mode rest on, kept on disk."""
        open_arena(self, cell["mode"]).prepare(cell["cloned"])

    def clone(self, footages: dict[Mode, Footage], cell: Row) -> None:
        """What a cell's agent is cloned to, kept on disk; from ``footages`` where its mode is among them."""
        arena = open_arena(self, cell["mode"])
        if cell["mode"] in footages:
            arena.footage = footages[cell["mode"]]
        (arena.oracle if cell["method"] == "oracle" else arena.latent_policy)(cell["seed"])

    def _prepare(self, missing: list[Row]) -> None:
        """Recordings and labels, then the clones that missing rows share, so that no two processes make the same."""
        modes = dict.fromkeys(cell["mode"] for cell in missing)
        rows = [cell for cell in missing if cell["method"] in CLONED]
        cloned = dict.fromkeys((row["mode"], row["seed"], CLONED[row["method"]]) for row in rows)
        shared = [{"mode": mode, "seed": seed, "method": method} for mode, seed, method in cloned]
        shared = [cell for cell in shared if open_arena(self, cell["mode"]).lacks(cell["method"], cell["seed"])]
        open_arena.cache_clear()
        needed = {cell["mode"] for cell in shared}
        self.make_apart(self.prepare, [{"mode": mode, "cloned": mode in needed} for mode in modes])
        on_gpu: set[Mode] = set() if self.device == "cpu" else needed  # on a CPU all map one file
        footages = {mode: self.open(mode).footage for mode in on_gpu}
        self.make_apart(functools.partial(self.clone, footages), shared)

    def list_cells(self, size: Row) -> list[Row]:
        """Every row of the table, one mode after the other, the first seed of all methods first."""
        cells: list[Row] = []
        for mode in (mode for mode in size["modes"] if self.modes is None or mode in self.modes):
            fixed: list[Row] = [{"method": method, "labels": None} for method in ("random", "expert", "oracle")]
            told = [{"method": method, "labels": n} for method in ("lam", "labelled_only") for n in size["labels"]]
            most = PAPERS_LABELS if PAPERS_LABELS in size["labels"] else size["labels"][-1]
            names = ("lam_majority", "lam_features", "marginal")
            others: list[Row] = [{"method": method, "labels": most} for method in names]
            through = ("lam_oracle_map", "expert_latents", "expert_seen_latents")
            others += [{"method": method, "labels": None} for method in through]
            wanted = [cell for cell in fixed + told + others if cell["method"] in self.methods]
            cells += self.repeat_over_seeds([{"mode": mode, **cell} for cell in wanted], size["seeds"])
        return cells

    def open(self, mode: Mode) -> Arena:
        """The mode's recordings and what comes of them, made when asked for."""
        size, world = SIZES[self.preset], self._load()
        recordings = Demonstrations(
            out=self.run_folder / f"demonstrations-{mode}",
            mode=mode,
            player=self.player,
            frames=size["frames"],
            labelled_frames=size["labelled_frames"],
            seed=self.seed,
            workers=self.workers,
        )
        policy, training = POLICIES[self.policy].policy, POLICIES[self.policy].training
        steps, batch_size = size["train_steps"], size["batch_size"]
        config = CloningConfig(policy=policy, training=replace(training, train_steps=steps, batch_size=batch_size))
        labelled = CloningConfig(
            policy=replace(policy, sees_actions=False), training=replace(training, train_steps=size["labelled_steps"])
        )
        name = f"{mode}-{digest_labels(world)[:8]}-{self.policy}-{size['frames']}-{steps}x{batch_size}"
        return Arena(recordings, world, config, labelled, self.run_folder / name, self.device)

    def _load(self) -> GenieWorldModel:
        return load_world(self.checkpoint, self.device, "float32")

    def _build(self, cell: Row, arena: Arena, levels: list[int]) -> tuple[Agent, Mapping | None]:
        method, labels, seed, games = cell["method"], cell["labels"], cell["seed"], len(levels)
        if method in ("random", "marginal", "expert", "expert_latents", "expert_seen_latents"):
            return self._build_player(cell, arena, levels)
        if method == "oracle":
            return ClonedAgent(arena.oracle(seed), games, seed, random_share=RANDOM_SHARE), None
        if method == "labelled_only":
            return ClonedAgent(arena.labelled_only(labels, seed), games, seed), None
        mapping = arena.mapping(method, labels, seed)
        return ClonedAgent(arena.latent_policy(seed), games, seed, mapping), mapping

    def _build_player(self, cell: Row, arena: Arena, levels: list[int]) -> tuple[Agent, Mapping | None]:
        """An agent without a clone."""
        method, labels, seed = cell["method"], cell["labels"], cell["seed"]
        if method == "random":
            return PlayerAgent(load_player("random", seed)), None
        if method == "marginal":
            return PlayerAgent(BlindPlayer(arena.draw_actions(labels, seed), seed)), None
        expert = PlayerAgent(load_player(self.player, seed), parse_share(self.player).sees_velocity)
        if method == "expert":
            return expert, None
        table = arena.mapping(method, None, seed)
        assert isinstance(table, ActionMapping)
        if method == "expert_latents":
            return ThroughLatents(expert, table, seed), table
        ahead = open_levels(RecordConfig(mode=cell["mode"]), levels)
        return SeenThroughLatents(expert, self._load(), table, ahead, seed), table


@functools.lru_cache(maxsize=1)  # gigabytes
def open_arena(experiment: Benchmark, mode: Mode) -> Arena:
    """What all rows of a mode share, in this process."""
    return experiment.open(mode)


def draw_figure(rows: list[Row], path: Path) -> None:
    """Levels solved against labelled samples, a panel for each mode, bands of 95 %."""
    import matplotlib.pyplot as plt

    told = gather_seeds(rows, KEYS)
    modes = list(dict.fromkeys(mode for mode, _, _ in told))
    figure, panels = plt.subplots(1, len(modes), figsize=(5 * len(modes), 4), squeeze=False, sharey=True)
    for panel, mode in zip(panels[0], modes, strict=True):
        for number, method in enumerate(FIGURE):
            points = {labels: told[mode, method, labels] for where, m, labels in told if (where, m) == (mode, method)}
            if points:
                _draw_method(panel, method, points, f"C{number}")
        panel.set(xscale="log", xlabel="labelled samples", title=mode, ylim=(0, 1))
    panels[0][0].set_ylabel("levels solved")
    known = panels[0][0].get_legend_handles_labels()
    figure.legend(*known, loc="lower center", ncols=3 * len(modes), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_method(panel: Any, method: str, points: dict[int | None, dict[str, Any]], colour: str) -> None:
    if len(points) == 1:  # whatever the number of samples
        (told,) = points.values()
        panel.axhline(told["solved"], color=colour, label=method, linestyle="--")
        panel.axhspan(*told["interval"], color=colour, alpha=0.15)
        return
    known = sorted((labels, told) for labels, told in points.items() if labels is not None)
    x = [labels for labels, _ in known]
    panel.plot(x, [told["solved"] for _, told in known], color=colour, label=method, marker="o", markersize=3)
    panel.fill_between(x, *zip(*(told["interval"] for _, told in known), strict=True), color=colour, alpha=0.15)


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
