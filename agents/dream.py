"""Train an agent with PPO inside a world; evaluate it in the real game from time to time.

    python -m agents.dream --reward learned:runs/reward-model/reward_model --starts runs/demonstrations/videos

The agent learns from the world only: episodes start from clips of videos of training levels, and the rewards are
those of ``genie_gym.envs``. With ``--labelled``, a few labelled samples map its latent actions to real ones, and it is
evaluated on validation levels of the real game every few updates.
"""

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecFrameStack

from agents.acting import ClonedAgent
from agents.config import POLICIES, Training
from agents.evaluation import choose_levels, play_levels
from agents.game import GameName, make_game
from agents.mapping import map_from_recordings
from agents.policy import ImpalaFeatures, LatentPolicy, load_policy, save_policy
from agents.ppo import CriticFirst, copy_actor, open_ppo, save_ppo, set_actor, train_ppo
from genie_gym.checks import require
from genie_gym.data.clips import ClipDataset
from genie_gym.envs import WorldHandle
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES
from genie_gym.failures import run_command
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.sb3 import make_sb3_vec_env
from genie_gym.serving import load_world
from genie_gym.system import replace_file

DREAMER = replace(POLICIES["impala"].policy, sees_actions=False)
"""Config of an agent trained in a world, as a ``LatentPolicy``; PPO can start from a clone with this config."""


class RepeatedFrameStack(VecFrameStack):
    """Stacks each row's last frames in channels, or their tokens side by side; those before an episode copy its first.

    SB3's ``VecFrameStack`` uses zeros instead, which cloned policies have never seen.
    """

    def reset(self) -> np.ndarray:
        return self._repeat(super().reset(), np.arange(self.num_envs))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        stacks, rewards, dones, infos = super().step_wait()
        return self._repeat(stacks, np.flatnonzero(dones)), rewards, dones, infos

    def _repeat(self, stacks: Any, rows: np.ndarray) -> np.ndarray:
        """Fill the stacks of the rows whose episodes begin, in SB3's buffer too, and return a copy of all stacks."""
        newest = stacks.shape[-1] // self.stacked_obs.n_stack
        stacks[rows] = np.tile(stacks[rows, ..., -newest:], self.stacked_obs.n_stack)
        return np.array(stacks)


def open_dream(world: GenieWorldModel, videos: Path, starts: int, seed: int) -> GenieWorldModel:
    """Return a world with the same weights whose episodes start from ``starts`` clips drawn from a folder of videos.

    Only frames of the videos or recordings are read, ``MAX_PROMPT_FRAMES`` for each start, and scaled to the world's
    size. The given world is not changed.
    """
    dataset = ClipDataset(videos, clip_length=MAX_PROMPT_FRAMES, height=world.config.height, width=world.config.width)
    numbers = np.random.default_rng(seed).integers(len(dataset), size=starts)
    dreamt = copy.copy(world)
    dreamt.start_clips = np.stack([dataset[int(number)] for number in numbers])
    return dreamt


def to_latent_policy(model: PPO, label_source: str) -> LatentPolicy:
    """Return a PPO agent's actor as a frozen policy on the CPU, which ``agents.acting`` can play."""
    policy = LatentPolicy(DREAMER, int(model.action_space.n), label_source)  # type: ignore[attr-defined]
    assert isinstance(policy.network, ImpalaFeatures)
    copy_actor(model, policy.network.encoder, policy.head)
    return policy.cpu().eval().requires_grad_(False)


def start_from(model: PPO, policy: LatentPolicy) -> None:
    """Copy a cloned policy's weights into the actor, and its encoder into the critic, of a PPO agent.

    Raises:
        ValueError: If the policy has another number of actions or another config than ``DREAMER``.
    """
    actions = int(model.action_space.n)  # type: ignore[attr-defined]
    if policy.num_actions != actions:
        raise ValueError(f"policy must choose among the world's {actions} latent actions, got {policy.num_actions}")
    if policy.config != DREAMER:
        raise ValueError(f"policy must have the config {DREAMER}, got {policy.config}")
    assert isinstance(policy.network, ImpalaFeatures)
    set_actor(model, policy.network.encoder, policy.head)


class RealGame:
    """Evaluates policies on validation levels of the real game; arguments are the options of ``Dream`` of that name.

    Raises:
        ValueError: If there are fewer samples than ``labels``.
    """

    def __init__(
        self, world: GenieWorldModel, labelled: Path, labels: int, mode: GameName, levels: int, seed: int
    ) -> None:
        self.game, self.levels, self._seed = make_game(mode), choose_levels("validation", levels), seed
        self.mapping = map_from_recordings(world, labelled, labels, seed, self.game)

    def play(self, policy: LatentPolicy) -> float:
        """Return the share of levels that the policy solves."""
        agent = ClonedAgent(policy, len(self.levels), self._seed, self.mapping, game=self.game)
        return float(play_levels(agent, self.game, self.levels).solved.mean())


@dataclass(frozen=True, kw_only=True)
class Dream(Training):
    """Train an agent in a world, evaluate it in the real game, and save its policy."""

    reward: str
    """reward as for ``gym.make("Genie-v0", reward_fn=...)``"""
    starts: Path
    """folder of videos of training levels; episodes start from their clips"""
    labelled: Path | None = None
    """folder of recordings with actions, needed to evaluate in the real game"""
    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a folder"""
    observation: Literal["pixels", "tokens"] = "pixels"
    """observation of the agent; one that sees tokens plays in the world only, and no ``policy`` is saved"""
    policy: Path | None = None
    """folder of a cloned latent policy to start from, with the config ``DREAMER``"""
    critic_steps: int = 2_048
    """number of initial steps in which a cloned policy is frozen, since an untrained critic would spoil it"""
    out: Path = Path("runs/dream")
    """folder of the run: log, ``curve.json`` and ``policy``"""
    mode: GameName = "easy"
    """game of the evaluations: CoinRun on easy or hard levels, or another by name"""
    env_steps: int = 100_000
    """number of steps in the world, of all rows together"""
    num_envs: int = 16
    """number of rows, environments played at once"""
    rollout_steps: int = 32
    """number of steps of each row between two updates"""
    max_episode_steps: int = 32
    """number of steps of an episode, few because the world's frames drift"""
    start_clips: int = 1024
    """number of start clips drawn from the videos"""
    labels: int = 200
    """number of labelled samples for the mapping"""
    levels: int = 50
    """number of validation levels of each evaluation"""
    look_every: int = 20
    """number of updates between two evaluations; the run is saved at each"""
    learning_rate: float = 5e-4
    """learning rate of PPO"""
    gamma: float = 0.999
    """discount of rewards per step: Procgen's 0.999 suits wins, a lower one immediate rewards"""
    ent_coef: float = 0.01
    """weight of the entropy bonus"""

    def run(self) -> LatentPolicy | None:
        """Train the remaining steps as ``train``, save the policy and return it; None if it sees tokens."""
        model = self.train()
        if self.observation == "tokens":
            return None
        policy = to_latent_policy(model, str(self.checkpoint))
        save_policy(policy, self.out / "policy")
        return policy

    def train(self) -> PPO:
        """Train the remaining steps and return the agent.

        Raises:
            ValueError: If ``critic_steps`` are more than ``env_steps``, the cloned policy does not fit, there are fewer
                samples than ``labels``, or an agent that sees tokens is to start from a clone or play the real game.
        """
        require(
            self.observation == "pixels" or self.policy is self.labelled is None,
            "observation",
            self.observation,
            "pixels with a policy or labelled samples, which need frames",
        )
        if self.policy is not None and self.critic_steps > self.env_steps:
            raise ValueError(f"critic_steps must be at most env_steps, {self.env_steps}, got {self.critic_steps}")
        world = load_world(self.checkpoint, self.device)
        game = None
        if self.labelled is not None:
            game = RealGame(world, self.labelled, self.labels, self.mode, self.levels, self.seed)
        model = self._open(world)
        first = [] if self.policy is None else [CriticFirst(self.critic_steps)]
        train_ppo(model, self.env_steps, lambda: self._checkpoint(model, game), self.look_every, self.minutes, *first)
        return model

    def _open(self, world: GenieWorldModel) -> PPO:
        handle = WorldHandle(open_dream(world, self.starts, self.start_clips, self.seed))
        options: dict[str, Any] = {"reward_fn": self.reward, "max_episode_steps": self.max_episode_steps}
        options["observation"] = self.observation
        envs = make_sb3_vec_env("Genie-v0", self.num_envs, seed=self.seed, checkpoint=handle, **options)
        is_new = not (self.out / "ppo.zip").exists()
        stacked = RepeatedFrameStack(envs, DREAMER.context_length)
        settings = {name: getattr(self, name) for name in ("learning_rate", "gamma", "ent_coef")}
        settings["is_critic_apart"] = self.policy is not None
        model = open_ppo(self.out, stacked, self.rollout_steps, self.seed, self.device, **settings)
        if self.policy is not None and is_new:
            start_from(model, load_policy(self.policy))
        return model

    def _checkpoint(self, model: PPO, game: RealGame | None) -> None:
        """Evaluate, add a row to ``curve.json`` in place of any of later steps, and save the run."""
        returns = [episode["r"] for episode in model.ep_info_buffer or ()]
        mean = float(np.mean(returns)) if returns else None
        row: dict[str, Any] = {"env_steps": model.num_timesteps, "dream_return": mean}
        if game is not None:
            row |= {"solved": game.play(to_latent_policy(model, "")), "levels": len(game.levels)}
            model.logger.record("real/solved", row["solved"])
        path = self.out / "curve.json"
        rows = json.loads(path.read_text()) if path.exists() else []
        rows = [each for each in rows if each["env_steps"] < row["env_steps"]]
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps([*rows, row], indent=1))
        save_ppo(model, self.out)


if __name__ == "__main__":
    run_command(Dream)
