"""Agents that play a batch of games with a memory for each game; ``agents.evaluation`` scores them."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from agents.config import SAMPLED, Playing
from agents.game import COINRUN, Game, GameBatch
from agents.mapping import ActionMapping, Mapping, draw_from
from agents.policy import LatentPolicy, load_policy
from genie_gym.checks import require
from genie_gym.data.env_games import EnvGames
from genie_gym.data.frames import to_float
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import Planner, Player

_LABELLED_AT_ONCE = 64  # transitions in a batch


class Agent(Protocol):
    """Plays B games; each call asks it for actions in some or all of them."""

    sees_velocity: bool
    """Whether its frames must show the velocity that Procgen can paint into them."""

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        """Choose real actions (M,) int32 in M of the games, given by their distinct indices ``rows`` (M,).

        These games show ``frames`` (M, H, W, 3) uint8; ``episode_starts`` (M,) bool marks first frames of episodes.
        """


class PlayerAgent:
    """An agent that plays as a player of ``genie_gym.players.specs``."""

    def __init__(self, player: Player, sees_velocity: bool = False) -> None:
        self.games: GameBatch | None = None
        """Games that are played, set by ``play_levels``: a player that plans needs their states."""
        self._player, self.sees_velocity = player, sees_velocity or getattr(player, "sees_velocity", False)

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        if isinstance(self._player, Planner) and self.games is not None:
            return self._player.plan(self.games.save(rows))
        if isinstance(self.games, EnvGames):
            return self._player(self.games.views())[rows]  # what it was recorded by: views of all games, small or not
        return self._player(frames)


class RandomLatents:
    """Frame-independent baseline: samples latent actions uniformly and maps them to real ones.

    It can beat random play, since the mapping's samples are the actions of a good player.
    """

    sees_velocity = False

    def __init__(self, mapping: ActionMapping, seed: int) -> None:
        self._mapping, self._rng = mapping, np.random.default_rng(seed)

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        latents = self._rng.integers(self._mapping.num_latent_actions, size=len(rows))
        return self._mapping.choose(latents, torch.empty(len(rows), 0), self._rng)


class SeenThroughLatents:
    """Upper bound for latent policies: maps the latent action inferred from the frame that an agent's action leads to.

    It looks one step ahead in a copy of the games, so only the information missing in latent actions is lost, and none
    by cloning. An action that ends the episode is played unchanged, since such transitions have no latent action.
    ``games`` is that copy: at the games' start, without painted velocity, and used by this agent alone.
    """

    def __init__(self, agent: Agent, world: GenieWorldModel, mapping: Mapping, games: GameBatch, seed: int) -> None:
        self._agent, self._world, self.mapping, self._games = agent, world, mapping, games
        if isinstance(agent, PlayerAgent):
            agent.games = games  # as ``play_levels`` does for an agent that it plays itself
        self._rng, self.sees_velocity = np.random.default_rng(seed), agent.sees_velocity
        now = games.observe().frames
        self._past = np.repeat(now[:, None], world.latent_action_model.frames_seen, axis=1)
        self._actions = np.zeros(len(now), dtype=np.int32)

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        now = self._games.observe().frames
        self._past[rows, :-1] = self._past[rows, 1:]
        self._past[rows, -1] = now[rows]
        fresh = rows[episode_starts]
        self._past[fresh] = now[fresh, None]
        wanted = self._agent.act(rows, frames, episode_starts)
        latents, is_last = self._look_ahead(rows, wanted)
        mapped = self.mapping.choose(latents, torch.empty(len(rows), 0), self._rng)
        chosen = np.where(is_last, wanted, mapped)
        self._step(rows, chosen)
        return chosen

    def _look_ahead(self, rows: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (M,) int64 latent actions of the wanted actions, and (M,) bool: True where they end the episode."""
        states = self._games.save()
        self._step(rows, wanted)
        then = self._games.observe()
        seen = np.concatenate([self._past[rows], then.frames[rows, None]], axis=1)
        is_last = then.episode_starts[rows].copy()
        self._games.restore(states)
        videos = (to_float(part.to(self._world.device)) for part in torch.from_numpy(seen).split(_LABELLED_AT_ONCE))
        return torch.cat([self._world.label(video)[:, -1].cpu() for video in videos]).numpy(), is_last

    def _step(self, rows: np.ndarray, actions: np.ndarray) -> None:
        self._actions[rows] = actions
        self._games.act(self._actions)


class PolicyMemory:
    """A frozen policy with a memory of the last frames and actions of ``games`` games.

    Actions are sampled from the policy's probabilities at a temperature: 1 as in the paper (Genie, appendix E), 0 for
    the likeliest action.
    """

    def __init__(self, policy: LatentPolicy, games: int, rng: np.random.Generator, temperature: float = 1.0) -> None:
        self.policy, self._rng, self._temperature = policy, rng, temperature
        length = policy.config.context_length
        self._frames = np.zeros((games, length, *policy.config.frame_size, 3), dtype=np.uint8)
        self._past = np.full((games, length - 1), policy.num_actions, dtype=np.int64)

    @torch.no_grad()
    def choose(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Return actions (M,) int32, latent for a latent policy, and features (M, D) on the CPU; see ``Agent.act``."""
        fresh = rows[episode_starts]
        self._frames[rows, :-1] = self._frames[rows, 1:]
        self._frames[rows, -1] = frames
        self._frames[fresh] = frames[episode_starts][:, None]  # frames before the episode are its first
        self._past[fresh] = self.policy.num_actions
        device, past = self.policy.device, torch.from_numpy(self._past[rows])
        features = self.policy.features(to_float(torch.from_numpy(self._frames[rows]).to(device)), past.to(device))
        chosen = draw_actions(self.policy.head(features), self._temperature, self._rng)
        self._past[rows, :-1] = self._past[rows, 1:]
        self.replace(rows, chosen)
        return chosen, features.cpu()

    def replace(self, rows: np.ndarray, chosen: np.ndarray) -> None:
        """Replace the newest actions in the memory by ``chosen`` (M,), those that were really taken."""
        if self._past.shape[1]:
            self._past[rows, -1] = chosen


class ClonedAgent:
    """A cloned policy that plays the real game, with a mapping if its actions are latent.

    Args:
        policy: Frozen policy.
        games: Number of games, B.
        seed: Seed of all choices.
        mapping: Mapping from its latent actions to real ones; None for a policy of real actions.
        playing: Temperature of the policy's logits, latent or real, and share of random actions.
        game: Game whose real actions are played.

    Raises:
        ValueError: If the policy's number of actions is not that of the mapping, or without one that of the game.
    """

    sees_velocity = False

    def __init__(
        self,
        policy: LatentPolicy,
        games: int,
        seed: int,
        mapping: Mapping | None = None,
        playing: Playing = SAMPLED,
        game: Game = COINRUN,
    ) -> None:
        wanted = game.num_actions if mapping is None else mapping.num_latent_actions
        number = policy.num_actions
        require(number == wanted, "policy.num_actions", number, f"{wanted}, as in the mapping or the game")
        self._rng, self._num_actions = np.random.default_rng(seed), game.num_actions
        self._memory = PolicyMemory(policy, games, self._rng, playing.temperature)
        self.mapping, self._random_share = mapping, playing.random_share

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        chosen, features = self._memory.choose(rows, frames, episode_starts)
        actions = chosen if self.mapping is None else self.mapping.choose(chosen, features, self._rng)
        if self._random_share:
            is_random = self._rng.random(len(rows)) < self._random_share
            drawn = self._rng.integers(self._num_actions, size=len(rows), dtype=np.int32)
            actions = np.where(is_random, drawn, actions)
        if self.mapping is None:
            self._memory.replace(rows, actions)  # a policy of real actions sees those taken
        return actions


def draw_actions(logits: Tensor, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Sample (B,) int32 actions from softmax(logits / temperature), logits (B, A); the likeliest ones at 0."""
    if temperature == 0:
        return logits.argmax(dim=-1).cpu().numpy().astype(np.int32)
    probabilities = (logits.double() / temperature).softmax(dim=-1)
    return draw_from(probabilities.cpu().numpy().cumsum(axis=1), rng)


def latent_driver(folder: str, seed: int = 0, temperature: float = 1.0) -> Callable[[np.ndarray, np.ndarray], int]:
    """Return a driver for the page of ``genie-gym play``, which plays the policy saved in ``folder`` at a temperature.

    ``genie_gym.play.drivers`` describes drivers. From a clone of the repository:
    ``python -m genie_gym.cli play --policy "agents/acting.py:latent_driver(FOLDER)"``.

    Raises:
        ValueError: If the folder holds no policy.
    """
    policy, rng = load_policy(Path(folder)), np.random.default_rng(seed)
    length = policy.config.context_length

    @torch.no_grad()
    def drive(frames: np.ndarray, latent_actions: np.ndarray) -> int:
        missing = max(0, length - len(frames))
        seen = np.concatenate([frames[:1].repeat(missing, axis=0), frames[-length:]])
        past = np.concatenate([np.full(missing, policy.num_actions), latent_actions[max(0, len(frames) - length) :]])
        return int(draw_actions(policy(to_float(seen)[None], torch.from_numpy(past)[None]), temperature, rng)[0])

    return drive
