"""The paper's figure 15 as a table: levels solved by a policy that learned from videos and a few labelled samples.

    python -m agents.benchmark --preset full

Records demonstrations, labels them, clones policies and scores them on easy and hard CoinRun. Every stage resumes.
Methods (``agents.methods``), all on the same levels:

    lam             latent policy cloned from videos; a dictionary from ``labels`` samples maps it (``ActionMapping``)
    lam_majority    the same policy, mapped to each latent action's most frequent real action
    lam_features    the same policy, with a mapping that also sees the policy's features
    lam_oracle_map  the same policy, with a dictionary from all labelled games instead of a few samples
    expert_latents  upper bound without a clone: the videos' player, each action replaced by a sample from
                    p(latent given action) and then from p(action given latent), by all labelled games
    expert_seen_latents  a higher bound: the latent action is inferred from the frame that the player's action leads
                    to, one step ahead in a copy of the game
    lam_relabel     policy of real actions, cloned from the videos as labelled by a decoder of the latent action model's
                    features, fitted on 200 samples
    idm_relabel     the same, with an inverse model from scratch on the 200 samples
    oracle          same network and budget, cloned from the videos' real actions
    labelled_only   same network, cloned from the ``labels`` samples only
    marginal        frame-independent baseline: samples from the ``labels`` samples' real actions
    random, expert  uniform real actions, and the player of the videos
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from agents.clone_store import CloneStore
from agents.config import POLICIES, CloningConfig, PolicyName
from agents.evaluation import gather_seeds
from agents.experiment import MethodExperiment
from agents.labelling import digest_labels
from agents.mapping import ActionMapping
from agents.methods import CLONING_METHODS, choose_papers_labels
from agents.windows import Footage
from genie_gym.config_io import to_dict
from genie_gym.configs import Mode
from genie_gym.results.experiment import Row

BENCHMARK_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"modes": ["easy"], "frames": 4096, "labelled_frames": 2048, "labels": [16, 64], "seeds": 1, "levels": 3}
    | {"train_steps": 10, "batch_size": 64, "labelled_steps": 5},
    "full": {"modes": ["easy", "hard"], "frames": 1_000_000, "labelled_frames": 20_000}
    | {"labels": [16, 32, 64, 128, 200, 512, 1024], "seeds": 5, "levels": 100}
    | {"train_steps": 4000, "batch_size": 512, "labelled_steps": 300},
}
"""Sizes by preset; ``labelled_steps`` is the number of batches of ``labelled_only``, small since it has few samples."""
KEYS = ("mode", "method", "labels")
"""Keys of a row whose values identify it, apart from the seed."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(MethodExperiment[CloneStore]):
    """Record videos, label them with the checkpoint's latent action model, clone, map and play."""

    name = "figure15_cloning"
    policy: PolicyName = "impala"
    """policy network: ``impala`` for a few CPU cores, ``impala-procgen`` for a GPU, ``st-vivit`` as in the paper"""
    methods: tuple[str, ...] = tuple(CLONING_METHODS)
    """methods to run now; others can follow in a later run"""
    modes: tuple[Mode, ...] | None = None
    """modes to run now; by default all modes of the preset"""
    baselines: Path | None = None
    """results file for another latent action model; rows of methods without latent actions are copied from it"""

    known_methods = CLONING_METHODS
    precision = "float32"

    @property
    def size(self) -> Row:
        return BENCHMARK_SIZES[self.preset]

    def run(self) -> None:
        """Finish the missing rows, then draw the figure.

        Raises:
            ValueError: If a method is unknown, a mode is not in the preset, or the baselines' settings differ.
        """
        size = self.size
        if self.modes is not None and not (self.modes and set(self.modes) <= set(size["modes"])):
            raise ValueError(f"modes must be among {size['modes']}, one or more, got {self.modes}")
        self.require_known_methods()
        labelled_by = self.describe_world()
        others = {"player": self.player, "policy": self.policy, "level_set": self.level_set}
        others |= to_dict(self.playing)
        settings = {**size, **labelled_by, **others}
        cells = self.list_cells(size)
        if self.baselines is not None:
            blind = [cell for cell in cells if CLONING_METHODS[cell["method"]].is_blind_to_latents]
            self.copy_rows(self.baselines, blind, settings, labelled_by)
        draw_figure(self.finish_methods(cells, settings), self.picture)

    def list_cells(self, size: Row) -> list[Row]:
        """Return a cell for every row: one mode after the other, and within it one seed after the other."""
        cells: list[Row] = []
        for mode in (mode for mode in size["modes"] if self.modes is None or mode in self.modes):
            wanted: list[Row] = [
                {"mode": mode, "method": name, "labels": labels}
                for name, method in CLONING_METHODS.items()
                if name in self.methods
                for labels in method.list_labels(size["labels"])
            ]
            cells += self.repeat_over_seeds(wanted, size["seeds"])
        return cells

    def score(self, run: int, cell: Row) -> Row:
        agent, row = self.play(run, cell)
        mapping = getattr(agent, "mapping", None)
        if isinstance(mapping, ActionMapping):
            row |= {"unseen_latents": len(mapping.unseen), "fallbacks": mapping.fallbacks}
            row |= dict(zip(("bits", "bits_given_latent"), mapping.entropies(), strict=True))
        return row

    def open(self, mode: Mode, footage: Footage | None = None) -> CloneStore:
        size, world, config = self.size, self.load(), POLICIES[self.policy]
        steps, batch_size = size["train_steps"], size["batch_size"]
        clones = replace(config, training=replace(config.training, train_steps=steps, batch_size=batch_size))
        labelled = CloningConfig(
            policy=replace(config.policy, sees_actions=False),
            training=replace(config.training, train_steps=size["labelled_steps"]),
        )
        name = f"{mode}-{digest_labels(world)[:8]}-{self.policy}-{size['frames']}-{steps}x{batch_size}"
        recordings, folder = self.plan_demonstrations(mode), self.run_folder / name
        samples = choose_papers_labels(size["labels"])
        return CloneStore(recordings, world, clones, labelled, folder, self.device, footage, samples)


def draw_figure(rows: list[Row], path: Path) -> None:
    """Draw levels solved against labelled samples, with bands of 95 % intervals and a panel for each mode."""
    import matplotlib.pyplot as plt

    scores = gather_seeds(rows, KEYS)
    modes = list(dict.fromkeys(mode for mode, _, _ in scores))
    drawn = {name: method.colour for name, method in CLONING_METHODS.items() if method.colour is not None}
    figure, panels = plt.subplots(1, len(modes), figsize=(5 * len(modes), 4), squeeze=False, sharey=True)
    for panel, mode in zip(panels[0], modes, strict=True):
        for method, colour in sorted(drawn.items(), key=lambda item: item[1]):
            points = {labels: score for (*key, labels), score in scores.items() if key == [mode, method]}
            if points:
                _draw_method(panel, method, points, colour)
        panel.set(xscale="log", xlabel="labelled samples", title=mode, ylim=(0, 1))
    panels[0][0].set_ylabel("levels solved")
    handles_and_names = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles_and_names, loc="lower center", ncols=3 * len(modes), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_method(panel: Any, method: str, points: dict[int | None, dict[str, Any]], colour: str) -> None:
    """Draw a curve over numbers of samples, or a horizontal line if there is a single point."""
    if len(points) == 1:
        (score,) = points.values()
        panel.axhline(score["solved"], color=colour, label=method, linestyle="--")
        panel.axhspan(*score["interval"], color=colour, alpha=0.15)
        return
    curve = sorted((labels, score) for labels, score in points.items() if labels is not None)
    x = [labels for labels, _ in curve]
    panel.plot(x, [score["solved"] for _, score in curve], color=colour, label=method, marker="o", markersize=3)
    panel.fill_between(x, *zip(*(score["interval"] for _, score in curve), strict=True), color=colour, alpha=0.15)


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
