"""What agents that learned inside a world are worth in the real game, beside those that never dreamt.

    python -m agents.dream_transfer --preset full

Methods, on easy and hard CoinRun, all on the same levels; ``real_labels`` is how many transitions of the real game
anybody looked at the action, reward or end of:

    random          acts uniformly
    random_latents  chooses latent actions uniformly, mapped by ``mapping_labels`` samples: what those alone are worth
    clone           the latent policy cloned from videos, mapped as above
    dream           PPO from nothing in the world, rewarded by a judge of ``judge_labels`` transitions, mapped as above
    dream_clone     the same, but the clone dreams on
    dream_agreement PPO from nothing, rewarded by agreement with the videos, which no label is needed for
    ppo_real        PPO in the real game for as many steps as ``dream`` has labels
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from agents.acting import Agent, ClonedAgent, PlayerAgent, RandomLatents
from agents.arena import Arena
from agents.config import POLICIES
from agents.demonstrations import Demonstrations
from agents.dream import DREAMER, Dream
from agents.evaluation import LevelSet, Mode, choose_levels, count_solved, play_levels
from agents.experiment import AgentExperiment
from agents.expert import Expert, load_expert
from agents.labelling import digest_labels
from agents.mapping import ActionMapping
from agents.reward_models import AgreementModelTraining, RewardModelTraining
from genie_gym.configs import RecordConfig
from genie_gym.data.record import record
from genie_gym.metrics.held_out import restrict
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import load_player, parse_shares
from genie_gym.results.experiment import Row
from genie_gym.serving import load_world

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "modes": ["easy"],
        "frames": 4096,
        "labelled_frames": 8192,
        "other_frames": 2048,
        "mapping_labels": 64,
        "judge_labels": 64,
        "judge_steps": 5,
        "clone_steps": 5,
        "env_steps": 64,
        "num_envs": 4,
        "seeds": 1,
        "levels": 3,
    },
    "full": {
        "modes": ["easy", "hard"],
        "frames": 100_000,
        "labelled_frames": 60_000,
        "other_frames": 20_000,
        "mapping_labels": 200,
        "judge_labels": 800,
        "judge_steps": 400,
        "clone_steps": 2000,
        "env_steps": 100_000,
        "num_envs": 16,
        "seeds": 3,
        "levels": 100,
    },
}
"""``env_steps``: dreamt ones."""
METHODS = ("random", "random_latents", "clone", "ppo_real", "dream", "dream_clone", "dream_agreement")
NEEDS = {"clone": ("clone",), "dream": ("dream",), "dream_clone": ("clone", "dream")}
"""Methods whose clone or judge several methods rest on."""
DREAMS: dict[str, dict[str, float]] = {
    "dream": {"gamma": 0.99},
    "dream_clone": {"gamma": 0.99, "ent_coef": 0.001, "learning_rate": 1e-4},
    "dream_agreement": {"gamma": 0.9, "ent_coef": 0.001},
}
"""PPO's settings where they are not ``Dream``'s.

A dream's win is at most 32 steps away, agreement follows each move at once as going right in ``agents.dream_task``, and
a clone is to be improved, not undone: its settings were chosen on validation levels of easy.
"""
CRITIC_SHARE = 10
"""One in so many dreamt steps is for a clone's critic alone."""
REAL_ENVS = 8
"""Games of ``ppo_real``, whose steps are few."""


class Stage:
    """What all methods of one mode share: recordings, judges, clones."""

    def __init__(self, experiment: "DreamTransfer", world: GenieWorldModel, mode: Mode) -> None:
        self.experiment, self.size, self.world, self.mode = experiment, experiment.size, world, mode
        self.folder = experiment.run_folder / f"{mode}-{digest_labels(world)[:8]}"

    @functools.cached_property
    def demonstrations(self) -> Demonstrations:
        """Of the player, on training levels."""
        return Demonstrations(
            out=self.experiment.run_folder / f"demonstrations-{self.mode}",
            mode=self.mode,
            player=self.experiment.player,
            frames=self.size["frames"],
            labelled_frames=self.size["labelled_frames"],
            seed=self.experiment.seed,
            workers=self.experiment.workers,
        )

    @functools.cached_property
    def arena(self) -> Arena:
        """Clones, and mappings from few samples."""
        config = replace(POLICIES["impala"], policy=DREAMER)
        config = replace(config, training=replace(config.training, train_steps=self.size["clone_steps"]))
        return Arena(self.demonstrations, self.world, config, config, self.folder, self.experiment.device)

    def record(self) -> None:
        """All recordings, and the labels of demonstrations, made where missing."""
        self.arena.prepare(cloned=True)
        self.record_others()
        self.record_held_out()

    def record_others(self) -> Path:
        """Other play than the demonstrations'."""
        return self._record("others", "training", "sticky")

    def record_held_out(self) -> Path:
        """The player on levels that no judge learns from."""
        return self._record("held-out", "validation", self.experiment.player)

    def clone(self, seed: int) -> Path:
        """Folder of the seed's cloned policy."""
        self.arena.latent_policy(seed)
        return self.folder / f"lam-{seed}" / "policy"

    def reward(self, method: str, seed: int) -> str:
        """The seed's judge, as ``reward_fn`` takes it by name."""
        if method == "dream_agreement":
            agreement = AgreementModelTraining(
                videos=self.demonstrations.run().videos,
                others=self.record_others(),
                out=self.folder / f"agreement-{seed}",
                train_steps=self.size["judge_steps"],
                seed=seed,
            )
            agreement.run()
            return f"agreement:{agreement.out / 'judge'}"
        learned = RewardModelTraining(
            labelled=self.demonstrations.run().labelled,
            held_out=self.record_held_out(),
            out=self.folder / f"reward-{seed}",
            labels=self.size["judge_labels"],
            train_steps=self.size["judge_steps"],
            seed=seed,
        )
        learned.run()
        return f"learned:{learned.out / 'judge'}"

    def _record(self, name: str, levels: str, player: str) -> Path:
        folder = self.experiment.run_folder / f"{name}-{self.mode}"
        config = RecordConfig(mode=self.mode, frames=self.size["other_frames"], seed=self.experiment.seed)
        record(restrict(config, levels), parse_shares([player]), folder, workers=self.experiment.workers)
        return folder


@dataclass(frozen=True, kw_only=True)
class DreamTransfer(AgentExperiment):
    """Record, judge, clone, dream in the checkpoint's world, play; a row for each mode, method and seed."""

    player: str = "expert"
    """Spec of who plays in the videos, as ``genie-gym record`` takes it."""
    methods: tuple[str, ...] = METHODS
    """Those wanted now; the others later."""
    level_set: LevelSet = "test"
    """Whose levels are played: what is chosen by them is chosen on ``validation``, ``test`` is for the table."""
    env_steps: int | None = None
    """Dreamt steps; the preset's where not given."""

    @property
    def name(self) -> str:
        return "dream_transfer"

    def run(self) -> None:
        """Finish the rows that are missing.

        Raises:
            ValueError: If a method is not known.
        """
        if not set(self.methods) <= set(METHODS):
            raise ValueError(f"methods must be among {METHODS}, got {self.methods}")
        settings = {
            **self.size,
            "checkpoint": Path(self.checkpoint).name,
            "labels_of": digest_labels(load_world(self.checkpoint, self.device)),
            "player": self.player,
            "level_set": self.level_set,
            "dreams": DREAMS,
        }
        cells: list[Row] = [{"mode": mode, "method": method} for mode in self.size["modes"] for method in self.methods]
        cells = self.repeat_over_seeds(cells, self.size["seeds"])
        if self.processes > 1:
            self._prepare(self.find_missing(cells, settings))
        self.finish_rows(cells, settings, self.score, self.processes)
        open_stage.cache_clear()

    @property
    def size(self) -> Row:
        """The preset's, but for what is given."""
        return SIZES[self.preset] | ({} if self.env_steps is None else {"env_steps": self.env_steps})

    def score(self, cell: Row) -> Row:
        """The rest of a cell's row."""
        levels = choose_levels(self.level_set, self.size["levels"])
        agent, labels = self._build(cell["method"], open_stage(self, cell["mode"]), cell["seed"], len(levels))
        return {"real_labels": labels, **count_solved(play_levels(agent, cell["mode"], levels))}

    def share(self, cell: Row) -> None:
        """The cell's clone or judge, kept on disk."""
        stage = open_stage(self, cell["mode"])
        if cell["method"] == "clone":
            stage.clone(cell["seed"])
        else:
            stage.reward(cell["method"], cell["seed"])

    def _prepare(self, missing: list[Row]) -> None:
        """Recordings, labels, clones and judges of missing rows, so that no two processes make the same."""
        for mode in dict.fromkeys(cell["mode"] for cell in missing):
            open_stage(self, mode).record()
        open_stage.cache_clear()
        shared: list[Row] = []
        for cell in missing:
            needed = [{**cell, "method": method} for method in NEEDS.get(cell["method"], ())]
            shared += [each for each in needed if each not in shared]
        self.make_apart(self.share, shared)

    def _build(self, method: str, stage: Stage, seed: int, games: int) -> tuple[Agent, int]:
        """An agent, and the labels that it rests on."""
        size = stage.size
        mapped, judged = size["mapping_labels"], size["judge_labels"]
        if method == "random":
            return PlayerAgent(load_player("random", seed)), 0
        if method == "random_latents":
            blind = stage.arena.mapping("lam", mapped, seed)
            assert isinstance(blind, ActionMapping)
            return RandomLatents(blind, seed), mapped
        if method == "ppo_real":
            return PlayerAgent(self._train_real(stage, seed)), mapped + judged
        if method == "clone":
            policy, labels = stage.arena.latent_policy(seed), mapped
        else:
            policy = Dream(
                reward=stage.reward(method, seed),
                starts=stage.demonstrations.run().videos,
                checkpoint=self.checkpoint,
                policy=stage.clone(seed) if method == "dream_clone" else None,
                critic_steps=size["env_steps"] // CRITIC_SHARE,
                out=stage.folder / f"{method}-{seed}-{size['env_steps']}",
                mode=stage.mode,
                env_steps=size["env_steps"],
                num_envs=size["num_envs"],
                device=self.device,
                seed=seed,
                **DREAMS[method],  # type: ignore[arg-type]
            ).run()
            labels = mapped if method == "dream_agreement" else mapped + judged
        mapping = stage.arena.mapping("lam", mapped, seed)
        return ClonedAgent(policy, games, seed, mapping), labels

    def _train_real(self, stage: Stage, seed: int) -> Any:
        """PPO's player after as many steps of the real game as a dream has labels, in four updates or so."""
        steps = stage.size["mapping_labels"] + stage.size["judge_labels"]
        saved = Expert(
            out=stage.folder / f"ppo-{seed}",
            mode=stage.mode,
            env_steps=steps,
            num_envs=REAL_ENVS,
            rollout_steps=max(steps // (4 * REAL_ENVS), 1),
            device=self.device,
            seed=seed,
        ).run()
        return load_expert(str(saved), seed)


@functools.lru_cache(maxsize=1)  # gigabytes
def open_stage(experiment: DreamTransfer, mode: Mode) -> Stage:
    """What all rows of a mode share, in this process."""
    return Stage(experiment, load_world(experiment.checkpoint, experiment.device), mode)


if __name__ == "__main__":
    tyro.cli(DreamTransfer).run()
