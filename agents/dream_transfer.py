"""Compare agents that learned inside a world with agents that did not, by the levels of the real game they solve.

    python -m agents.dream_transfer --preset full

All methods play the levels and the core of ``agents.benchmark``; ``labels`` in a row is the number of real transitions
whose action, reward or end the agent has learned from:

    player          the player of the videos, and the blind rows of ``agents.blind_methods``
    random_latents  uniform latent actions, mapped by ``mapping_labels`` samples: a baseline with the mapping alone
    clone           latent policy cloned from videos, with the same mapping
    ppo_real        PPO in the real game, for as many steps as ``dream`` has labels
    dream           PPO from scratch in the world, rewarded by a reward model of ``judge_labels`` transitions, mapped
    dream_clone     PPO in the world with the same reward, started from the clone
    dream_agreement PPO from scratch in the world, rewarded for agreement with the videos, which needs no labels
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from agents.acting import Agent, PlayerAgent, RandomLatents
from agents.blind_methods import add_twins, list_blind_methods
from agents.clone_store import CloneStore
from agents.config import POLICIES
from agents.dream import DREAMER, Dream
from agents.experiment import Method, MethodExperiment, MethodInputs
from agents.game import GameName
from agents.labelling import digest_labels
from agents.mapping import ActionMapping
from agents.methods import PLAYER
from agents.player import PlayerTraining, load_trained
from agents.policy import LatentPolicy
from agents.reward_models import AgreementModelTraining, RewardModelTraining
from agents.windows import Footage
from genie_gym.failures import run_command
from genie_gym.results.experiment import Row

DREAM_TRANSFER_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"modes": ["easy"], "frames": 4096, "labelled_frames": 8192, "other_frames": 2048, "mapping_labels": 64}
    | {"judge_labels": 64, "judge_steps": 5, "clone_steps": 5, "env_steps": 64, "num_envs": 4, "seeds": 1, "levels": 3}
    | {"core_levels": 2, "core_among": 12},
    "full": {"modes": ["easy"], "frames": 100_000, "labelled_frames": 60_000, "other_frames": 20_000}
    | {"mapping_labels": 200, "judge_labels": 800, "judge_steps": 400, "clone_steps": 2000}
    | {"env_steps": 500_000, "num_envs": 16, "seeds": 3, "levels": 200}
    | {"core_levels": 256, "core_among": 1000},
}
"""Sizes by preset; ``judge_labels`` and ``judge_steps`` are the reward model's, ``env_steps`` those in the world."""
_LEVEL_SIZES = ("levels", "core_levels", "core_among")
"""Sizes that decide which levels are played."""
_CRITIC_SHARE = 10
"""Divisor of the steps in the world: in their first tenth, only the critic of a cloned policy is trained."""
_REAL_ENVS = 8
"""Number of games that ``ppo_real`` plays at once, few since its steps are few."""


class DreamStore(CloneStore):
    """Recordings, clones, reward models and agents of one mode, each made on first use and saved."""

    learns_from_levels_played: ClassVar[bool] = False
    """Whether agents learn from the levels that they are scored on."""

    def __init__(self, experiment: "DreamTransfer", mode: GameName, footage: Footage | None = None) -> None:
        self.experiment, self.size, self.mode, world = experiment, experiment.size, mode, experiment.load()
        config = replace(POLICIES["impala"], policy=DREAMER)
        config = replace(config, training=replace(config.training, train_steps=self.size["clone_steps"]))
        without = ("modes", "seeds", "env_steps", *(() if self.learns_from_levels_played else _LEVEL_SIZES))
        learned = {name: value for name, value in self.size.items() if name not in without}
        digest = hashlib.sha256(json.dumps([learned, describe_dreams()]).encode()).hexdigest()
        recordings, folder = experiment.plan_demonstrations(mode), f"{mode}-{digest_labels(world)[:8]}-{digest[:8]}"
        super().__init__(recordings, world, config, config, experiment.run_folder / folder, experiment.device, footage)

    def prepare(self, cloned: bool) -> None:
        """Record all parts and label the demonstrations, even without clones: dreams start from their clips."""
        super().prepare(cloned=True)
        self._record_others()
        self._record_held_out()

    def make_shared(self, name: str, seed: int) -> object:
        """Make a seed's ``lam`` (see ``latent_policy``) or ``reward``, which several methods share."""
        return self.reward(seed) if name == "reward" else super().make_shared(name, seed)

    @property
    def starts(self) -> Path:
        """Folder of videos whose clips the dreams start from: those of training levels."""
        return self.recordings.run().videos

    def clone(self, seed: int) -> Path:
        """Clone the seed's latent policy if it is missing, and return its folder."""
        self.latent_policy(seed)
        return self.clones / f"lam-{seed}" / "policy"

    def reward(self, seed: int) -> str:
        """Train the seed's reward model on labelled transitions, and return the ``reward_fn`` that uses it."""
        learned = RewardModelTraining(
            labelled=self.recordings.run().labelled,
            held_out=self._record_held_out(),
            out=self.work / f"reward-{seed}",
            labels=self.size["judge_labels"],
            train_steps=self.size["judge_steps"],
            seed=seed,
        )
        learned.run()
        return f"learned:{learned.folder}"

    def agreement(self, seed: int) -> str:
        """Train the seed's reward model of agreement with the videos, and return the ``reward_fn`` that uses it."""
        agreement = AgreementModelTraining(
            videos=self.recordings.run().videos,
            others=self._record_others(),
            out=self.work / f"agreement-{seed}",
            train_steps=self.size["judge_steps"],
            seed=seed,
        )
        agreement.run()
        return f"agreement:{agreement.folder}"

    def dream(self, method: str, reward: str, seed: int, clone: Path | None = None) -> LatentPolicy:
        """Train a method's agent in the world, started from the policy in ``clone`` if given; return its policy."""
        size, experiment, ppo = self.size, self.experiment, {each.name: each.ppo for each in _METHODS}[method]
        policy = Dream(
            reward=reward,
            starts=self.starts,
            checkpoint=experiment.checkpoint,
            policy=clone,
            critic_steps=size["env_steps"] // _CRITIC_SHARE,
            out=self.work / f"{method}-{seed}-{size['env_steps']}",
            mode=self.mode,
            env_steps=size["env_steps"],
            num_envs=size["num_envs"],
            device=experiment.device,
            seed=seed,
            **ppo,  # type: ignore[arg-type]
        ).run()
        assert policy is not None  # it sees pixels
        return policy

    def few_samples(self, seed: int) -> ActionMapping:
        """Return the mapping fitted on the seed's ``mapping_labels`` samples."""
        return self.mapping(self.size["mapping_labels"], seed)

    def train_real(self, seed: int) -> PlayerAgent:
        """Return an agent trained in the real game for as many steps as ``dream`` has labels, in four updates or fewer.

        Whole updates make them up to 31 steps more.
        """
        steps = self.size["mapping_labels"] + self.size["judge_labels"]
        saved = PlayerTraining(
            out=self.work / f"ppo-{seed}",
            modes=(self.mode,),
            env_steps=steps,
            num_envs=_REAL_ENVS,
            rollout_steps=-(-steps // (4 * _REAL_ENVS)),
            device=self.experiment.device,
            seed=seed,
        ).run()
        return PlayerAgent(load_trained(str(saved), seed=seed))

    def _record_others(self) -> Path:
        return self._record("others", "training", "sticky")  # play that is no demonstration

    def _record_held_out(self) -> Path:
        return self._record("held-out", "validation", self.experiment.player)  # scores reward models

    def _record(self, name: str, levels: str, player: str) -> Path:
        experiment, folder = self.experiment, self.experiment.run_folder / f"{name}-{self.mode}"
        frames, workers = self.size["other_frames"], experiment.workers
        self.game.record(levels, player, folder, frames, experiment.seed, workers=workers)
        return folder


@dataclass(frozen=True)
class DreamMethod(Method[DreamStore]):
    """A method of ``DreamTransfer``."""

    labelled_by: tuple[str, ...] = ()
    """Names of the sizes whose sum is the row's ``labels``, the real transitions that the agent learns from."""
    ppo: dict[str, float] = field(default_factory=dict)
    """Settings of PPO that differ from the defaults of ``Dream``."""


_Inputs = MethodInputs[DreamStore]


def _play_mapped(inputs: _Inputs, policy: LatentPolicy) -> Agent:
    return inputs.play_policy(policy, inputs.store.few_samples(inputs.seed))


def _dream(inputs: _Inputs, method: str, reward: str, clone: Path | None = None) -> Agent:
    return _play_mapped(inputs, inputs.store.dream(method, reward, inputs.seed, clone))


_MAPPED, _REWARDED = ("mapping_labels",), ("mapping_labels", "judge_labels")

# Discounts suit the rewards: a win in the world is at most 32 steps away, agreement rewards each move at once as in
# ``agents.dream_task``. The other settings of ``dream_clone``, chosen on easy validation levels, let PPO improve the
# clone without undoing it.
_METHODS = (
    DreamMethod(
        "random_latents",
        "random latent actions, mapped",
        lambda inputs: RandomLatents(inputs.store.few_samples(inputs.seed), inputs.seed),
        kind="blind",
        labelled_by=_MAPPED,
    ),
    DreamMethod(
        "clone",
        "latent policy, cloned from videos",
        lambda inputs: _play_mapped(inputs, inputs.store.latent_policy(inputs.seed)),
        needs=("lam",),
        labelled_by=_MAPPED,
    ),
    DreamMethod(
        "ppo_real",
        "PPO in the real game for as many steps",
        lambda inputs: inputs.store.train_real(inputs.seed),
        labelled_by=_REWARDED,
    ),
    DreamMethod(
        "dream",
        "PPO in the world, rewarded by a reward model of labelled transitions",
        lambda inputs: _dream(inputs, "dream", inputs.store.reward(inputs.seed)),
        needs=("reward",),
        labelled_by=_REWARDED,
        ppo={"gamma": 0.99},
    ),
    DreamMethod(
        "dream_clone",
        "the cloned policy, dreaming on, rewarded by such a model",
        lambda inputs: _dream(inputs, "dream_clone", inputs.store.reward(inputs.seed), inputs.store.clone(inputs.seed)),
        needs=("lam", "reward"),
        labelled_by=_REWARDED,
        ppo={"gamma": 0.99, "ent_coef": 0.001, "learning_rate": 1e-4},
    ),
    DreamMethod(
        "dream_agreement",
        "PPO in the world, rewarded by agreement with videos",
        lambda inputs: _dream(inputs, "dream_agreement", inputs.store.agreement(inputs.seed)),
        labelled_by=_MAPPED,
        ppo={"gamma": 0.9, "ent_coef": 0.001},
    ),
)
DREAM_METHODS: dict[str, Method[Any]] = {
    method.name: method for method in (*add_twins((PLAYER, *_METHODS)), *list_blind_methods())
}
"""Methods by name, in the order of their rows."""


def describe_dreams() -> dict[str, dict[str, float]]:
    """Return the settings of PPO that differ from the defaults of ``Dream``, by method."""
    return {method.name: method.ppo for method in _METHODS if method.ppo}


@dataclass(frozen=True, kw_only=True)
class DreamTransfer(MethodExperiment[DreamStore]):
    """Record, train reward models, clone, train agents in the checkpoint's world, and play the real game."""

    name = "dream_transfer"
    methods: tuple[str, ...] = tuple(DREAM_METHODS)
    """methods to run now; others can follow in a later run"""
    env_steps: int | None = None
    """number of steps in the world; None for the preset's"""

    known_methods = DREAM_METHODS

    @property
    def size(self) -> Row:
        return DREAM_TRANSFER_SIZES[self.preset] | ({} if self.env_steps is None else {"env_steps": self.env_steps})

    def run(self) -> None:
        """Compute the missing rows and write the results.

        Raises:
            ValueError: If a method is unknown.
        """
        self.require_known_methods()
        settings = self.describe_settings(dreams=describe_dreams())
        self.finish_methods(self.list_method_cells(self.size["modes"]), settings)

    def list_labels(self, method: Method[Any]) -> list[int | None]:
        method = DREAM_METHODS[method.twin_of or method.name]
        if isinstance(method, DreamMethod):
            return [sum(self.size[name] for name in method.labelled_by)]
        return method.list_labels([self.size["mapping_labels"]])

    def score(self, run: int, played: dict[tuple[Any, ...], list[int]], cell: Row) -> Row:
        return self.play(run, played, cell)[1]

    def open(self, mode: GameName, footage: Footage | None = None) -> DreamStore:
        return DreamStore(self, mode, footage)


if __name__ == "__main__":
    run_command(DreamTransfer)
