"""The paper's figure 15 as a table: levels solved by a policy that learned from videos and a few labelled samples.

    python -m agents.benchmark --preset full

Records demonstrations, labels them, clones policies and scores them on easy and hard CoinRun. Every stage resumes.
``--modes breakout`` plays another game by name (``agents.game``), with a results file of its own.
Methods (``agents.methods``), all on the same levels: the first of the set, and its *core*, the levels that the best
constant action fails (``agents.core_levels``):

    player          the player of the videos
    oracle          policy cloned from the videos' real actions
    lam             latent policy cloned from videos; a dictionary from ``labels`` samples maps it (``ActionMapping``)
    lam_relabel     policy of real actions, cloned from the videos as labelled by a decoder of the latent action model's
                    features, fitted on 200 samples
    idm_relabel     the same, with an inverse model from scratch on the 200 samples
    labelled_only   same network, cloned from the ``labels`` samples only
    player_seen_latents  bound without a clone: the videos' player, each action replaced by one that the dictionary has
                    for the latent action of the frame it leads to, one step ahead in a copy of the game

Blind methods (``agents.blind_methods``) never look at a frame:

    constant_A      holds action A; ``best_constant`` that which solves the most validation levels
    right_jump_P    right at every step, jumping with probability P
    marginal        draws from the ``labels`` samples' real actions
    random          draws uniformly
    blind_twin_M    draws with the shares of actions that method M itself played, of the same seed
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.clone_store import CloneStore
from agents.config import POLICIES, CloningConfig, PolicyName
from agents.experiment import MethodExperiment, choose_papers_labels
from agents.game import GameName, ProcgenGame, make_game
from agents.labelling import digest_labels
from agents.mapping import ActionMapping
from agents.methods import CLONING_METHODS
from agents.scores import Scores
from agents.windows import Footage
from genie_gym.config_io import to_dict
from genie_gym.failures import run_command
from genie_gym.results.experiment import Row

BENCHMARK_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"modes": ["easy"], "frames": 4096, "labelled_frames": 2048, "labels": [16, 64], "seeds": 1, "levels": 2}
    | {"core_levels": 1, "core_among": 12}
    | {"train_steps": 10, "batch_size": 64, "labelled_steps": 5, "inverse_steps": 20},
    "full": {"modes": ["easy", "hard"], "frames": 1_000_000, "labelled_frames": 20_000}
    | {"labels": [16, 64, 200, 1024], "seeds": 5, "levels": 200, "core_levels": 256, "core_among": 1000}
    | {"train_steps": 4600, "batch_size": 256, "labelled_steps": 300, "inverse_steps": 600},
}
"""Sizes by preset: ``levels`` the first of the set, ``core_levels`` the first of the core of its first ``core_among``;
``labelled_steps`` is the number of batches of ``labelled_only``, small since it has few samples, and ``inverse_steps``
the largest number of batches of each inverse model of ``idm_relabel``."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(MethodExperiment[CloneStore]):
    """Record videos, label them with the checkpoint's latent action model, clone, map and play."""

    name = "figure15_cloning"
    policy: PolicyName = "compact"
    """policy network: ``compact`` for a few CPU cores, ``impala`` for a GPU, ``st-vivit`` as in the paper"""
    methods: tuple[str, ...] = tuple(CLONING_METHODS)
    """methods to run now; others can follow in a later run"""
    modes: tuple[GameName, ...] | None = None
    """modes to run now, by default all modes of the preset, or another game alone, with results of its own"""
    baselines: Path | None = None
    """results file for another latent action model; rows of methods without latent actions are copied from it"""

    known_methods = CLONING_METHODS
    precision = "float32"

    @property
    def size(self) -> Row:
        return BENCHMARK_SIZES[self.preset] | ({"modes": [self._other_game]} if self._other_game else {})

    @property
    def file_name(self) -> str:
        return self.name + (f"_{self._other_game}" if self._other_game else "")

    @property
    def _other_game(self) -> GameName | None:
        """The first game of ``modes`` that is not CoinRun."""
        return next((mode for mode in self.modes or () if not isinstance(make_game(mode), ProcgenGame)), None)

    @property
    def cloning(self) -> CloningConfig:
        """Config of the policies cloned from the videos; their seed is that of a row."""
        steps, batch_size = self.size["train_steps"], self.size["batch_size"]
        config = POLICIES[self.policy]
        return replace(config, training=replace(config.training, train_steps=steps, batch_size=batch_size))

    @property
    def labelled_cloning(self) -> CloningConfig:
        """Config of policies cloned from labelled samples alone, whose past and next actions would be labels too."""
        config = POLICIES[self.policy]
        training = replace(config.training, train_steps=self.size["labelled_steps"])
        return CloningConfig(policy=replace(config.policy, sees_actions=False), training=training)

    def describe_settings(self, **others: Any) -> Row:
        cloning = {"cloning": to_dict(self.cloning), "labelled_cloning": to_dict(self.labelled_cloning)}
        return super().describe_settings(policy=self.policy, **cloning, **others)

    def run(self) -> None:
        """Finish the missing rows, then draw the figure.

        Raises:
            ValueError: If a method is unknown, a mode is not in the preset, or the baselines' settings differ.
        """
        self.require_known_methods()
        cells = self.list_cells()
        settings = self.describe_settings()
        if self.baselines is not None:
            blind = [cell for cell in cells if CLONING_METHODS[cell["method"]].is_blind_to_latents]
            self.copy_rows(self.baselines, blind, settings, self.describe_world())
        draw_figure(Scores(self.finish_methods(cells, settings), CLONING_METHODS, self.seed), self.picture)

    def list_cells(self) -> list[Row]:
        """Return a cell for every row of the modes to run now.

        Raises:
            ValueError: If a mode is not in the preset, or there is none.
        """
        modes, known = self.modes, self.size["modes"]
        if modes is not None and not (modes and set(modes) <= set(known)):
            raise ValueError(f"modes must be among {known}, one or more, got {modes}")
        return self.list_method_cells(mode for mode in known if modes is None or mode in modes)

    def score(self, run: int, played: dict[tuple[Any, ...], list[int]], cell: Row) -> Row:
        agent, row = self.play(run, played, cell)
        mapping = getattr(agent, "mapping", None)
        if isinstance(mapping, ActionMapping):
            row |= {"unseen_latents": len(mapping.unseen), "fallbacks": mapping.fallbacks}
            row |= dict(zip(("bits", "bits_given_latent"), mapping.entropies(), strict=True))
        return row

    def open(self, mode: GameName, footage: Footage | None = None) -> CloneStore:
        size, world = self.size, self.load()
        frames, batches = f"{size['frames']}-{size['labelled_frames']}", f"{size['train_steps']}x{size['batch_size']}"
        folder = self.run_folder / f"{mode}-{digest_labels(world)[:8]}-{self.policy}-{frames}-{batches}"
        recordings, samples = self.plan_demonstrations(mode), choose_papers_labels(size["labels"])
        configs = self.cloning, self.labelled_cloning
        return CloneStore(recordings, world, *configs, folder, self.device, footage, samples, size["inverse_steps"])


def draw_figure(scores: Scores, path: Path) -> None:
    """Draw core levels solved against labelled samples, with bands of 95 % intervals and a panel for each mode."""
    import matplotlib.pyplot as plt

    drawn = {name: method.colour for name, method in CLONING_METHODS.items() if method.colour is not None}
    figure, panels = plt.subplots(1, len(scores.modes), figsize=(5 * len(scores.modes), 4), squeeze=False, sharey=True)
    for panel, mode in zip(panels[0], scores.modes, strict=True):
        for method, colour in sorted(drawn.items(), key=lambda item: item[1]):
            points = {labels: scores.estimate(mode, (name, labels)) for name, labels in scores.keys if name == method}
            if found := {labels: point for labels, point in points.items() if point}:
                _draw_method(panel, method, found, colour)
        if best := scores.find_best_blind(mode):
            _draw_method(panel, "best blind", {None: scores.estimate(mode, best)}, "C3")
        panel.set(xscale="log", xlabel="labelled samples", title=mode, ylim=(0, 1))
    panels[0][0].set_ylabel("levels of the core solved")
    handles_and_names = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles_and_names, loc="lower center", ncols=3 * len(scores.modes), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_method(panel: Any, method: str, points: dict[int | None, Any], colour: str) -> None:
    """Draw a curve over numbers of samples, or a horizontal line if there is a single point."""
    if len(points) == 1:
        (point,) = points.values()
        panel.axhline(point["value"], color=colour, label=method, linestyle="--")
        panel.axhspan(*point["interval"], color=colour, alpha=0.15)
        return
    curve = sorted((labels, point) for labels, point in points.items() if labels is not None)
    x = [labels for labels, _ in curve]
    panel.plot(x, [point["value"] for _, point in curve], color=colour, label=method, marker="o", markersize=3)
    panel.fill_between(x, *zip(*(point["interval"] for _, point in curve), strict=True), color=colour, alpha=0.15)


if __name__ == "__main__":
    run_command(Benchmark)
