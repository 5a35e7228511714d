"""Agents that play many games at once, each game with its own memory: what ``evaluation`` scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from agents.mapping import ActionMapping, Mapping, draw_from
from agents.policy import LatentPolicy, load_policy
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import FRAME_SIZE, NUM_REAL_ACTIONS, Games
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import Player

LABELLED = 64
"""Transitions labelled at once."""


class Agent(Protocol):
    """Plays B games; may be asked about some of them only."""

    sees_velocity: bool
    """Whether it must be shown Procgen's painted velocity."""

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        """Real actions for the games ``rows``.

        Args:
            rows: (R,) different game numbers.
            frames: (R, 64, 64, 3) uint8.
            episode_starts: (R,) bool: True where a frame is the first of its episode.

        Returns:
            (R,) int32 in [0, 15).
        """


class PlayerAgent:
    """A player of ``genie_gym.players.specs``, which needs no memory."""

    def __init__(self, player: Player, sees_velocity: bool = False) -> None:
        self._player, self.sees_velocity = player, sees_velocity or getattr(player, "sees_velocity", False)

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        return self._player(frames)


class BlindPlayer:
    """A player that draws from given real actions whatever the frames show: to have seen anything is to beat it.

    Args:
        actions: (N,) in [0, 15), such as those of labelled samples.
        seed: Of the draws.
    """

    def __init__(self, actions: np.ndarray, seed: int) -> None:
        self._actions, self._rng = actions, np.random.default_rng(seed)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self._rng.choice(self._actions, len(frames)).astype(np.int32)


class RandomLatents:
    """Draws latent actions uniformly, whatever the frames show: to have learned which to choose is to beat it.

    What it solves beyond random play, the samples of the mapping know: they are a good player's actions.

    Args:
        mapping: From latent actions to real ones.
        seed: Of the draws.
    """

    sees_velocity = False

    def __init__(self, mapping: ActionMapping, seed: int) -> None:
        self._mapping, self._rng = mapping, np.random.default_rng(seed)

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        latents = self._rng.integers(self._mapping.num_latent_actions, size=len(rows))
        return self._mapping.choose(latents, torch.empty(len(rows), 0), self._rng)


class ThroughLatents:
    """Another agent, of whose actions only what a latent action tells is left.

    Each real action becomes one of the latent actions that it was seen with, drawn, and that one of its real actions.
    Both draws are blind to the picture, so that more is lost than by a latent action model that sees what follows.

    Args:
        agent: Who chooses.
        mapping: With the counts of both.
        seed: Of the draws.
    """

    def __init__(self, agent: Agent, mapping: ActionMapping, seed: int) -> None:
        self._agent, self._mapping, self._rng = agent, mapping, np.random.default_rng(seed)
        self.sees_velocity = agent.sees_velocity
        counts = mapping.counts.T
        self._latents = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, counts.sum(axis=0)).cumsum(axis=1)

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        wanted = self._agent.act(rows, frames, episode_starts)
        latents = draw_from(self._latents[wanted], self._rng)
        return self._mapping.choose(latents, torch.empty(len(rows), 0), self._rng)


class SeenThroughLatents:
    """Another agent, of whose actions only the latent action is left that is seen in what they lead to.

    It looks one step ahead in games of its own. What is lost is what the latent actions do not tell, and nothing by a
    policy that has to be cloned. An action that ends the episode stands as it is: such transitions have no label.

    Args:
        agent: Who chooses.
        world: Whose latent action model looks at the frames up to now and the next.
        mapping: From its latent actions to real ones.
        games: At the start of those that will be played, velocity unpainted; they are this agent's from here on.
        seed: Of the mapping's draws.
    """

    def __init__(self, agent: Agent, world: GenieWorldModel, mapping: Mapping, games: Games, seed: int) -> None:
        self._agent, self._world, self._mapping, self._games = agent, world, mapping, games
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
        chosen = self._mapping.choose(latents, torch.empty(len(rows), 0), self._rng)
        chosen = np.where(is_last, wanted, chosen)
        self._step(rows, chosen)
        return chosen

    def _look_ahead(self, rows: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(R,) int64 latent actions of the transitions to come, and (R,) bool where there is none to come."""
        states = self._games.save()
        self._step(rows, wanted)
        then = self._games.observe()
        seen = np.concatenate([self._past[rows], then.frames[rows, None]], axis=1)
        is_last = then.episode_starts[rows].copy()
        self._games.restore(states)
        labels = [self._world.label(to_float(part))[:, -1].cpu() for part in torch.from_numpy(seen).split(LABELLED)]
        return torch.cat(labels).numpy(), is_last

    def _step(self, rows: np.ndarray, actions: np.ndarray) -> None:
        self._actions[rows] = actions
        self._games.act(self._actions)


class PolicyMemory:
    """A policy with the last frames and actions of B games: chooses among what it was cloned from.

    Args:
        policy: Frozen.
        games: B.
        rng: Of the choices, which are drawn and never the largest logit (Genie, appendix E).
    """

    def __init__(self, policy: LatentPolicy, games: int, rng: np.random.Generator) -> None:
        self.policy, self._rng, length = policy, rng, policy.config.context_length
        self._frames = np.zeros((games, length, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
        self._past = np.full((games, length - 1), policy.num_actions, dtype=np.int64)

    @torch.no_grad()
    def choose(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Actions (R,) int32 of the policy's own kind, and its features (R, D) on the CPU; arguments as for ``act``."""
        self._see(rows, frames, episode_starts)
        device, past = self.policy.device, torch.from_numpy(self._past[rows])
        features = self.policy.features(to_float(torch.from_numpy(self._frames[rows]).to(device)), past.to(device))
        shares = self.policy.head(features).double().softmax(dim=-1)
        chosen = draw_from(shares.cpu().numpy().cumsum(axis=1), self._rng)
        self._past[rows, :-1] = self._past[rows, 1:]
        self.replace(rows, chosen)
        return chosen, features.cpu()

    def replace(self, rows: np.ndarray, chosen: np.ndarray) -> None:
        """Remember that other actions were taken than those chosen last."""
        if self._past.shape[1]:
            self._past[rows, -1] = chosen

    def _see(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> None:
        """Shift the memory by one frame; at an episode's start its first frame stands for those before."""
        fresh = rows[episode_starts]
        self._frames[rows, :-1] = self._frames[rows, 1:]
        self._frames[rows, -1] = frames
        self._frames[fresh] = frames[episode_starts][:, None]
        self._past[fresh] = self.policy.num_actions


class ClonedAgent:
    """A cloned policy in the real game: through a mapping if its actions are latent, as it is if they are real.

    Args:
        policy: Frozen.
        games: B.
        seed: Of all choices.
        mapping: Of its latent actions to real ones; None for a policy of real actions.
        random_share: Of actions that are drawn uniformly instead; the paper's oracle played better with 0.1.

    Raises:
        ValueError: If policy and mapping disagree about the number of actions.
    """

    sees_velocity = False

    def __init__(
        self, policy: LatentPolicy, games: int, seed: int, mapping: Mapping | None = None, random_share: float = 0.0
    ) -> None:
        wanted = NUM_REAL_ACTIONS if mapping is None else mapping.num_latent_actions
        if policy.num_actions != wanted:
            raise ValueError(f"policy.num_actions must be {wanted}, as the mapping has it, got {policy.num_actions}")
        if not 0 <= random_share <= 1:
            raise ValueError(f"random_share must be in [0, 1], got {random_share}")
        self._rng = np.random.default_rng(seed)
        self._memory, self._mapping, self._random_share = PolicyMemory(policy, games, self._rng), mapping, random_share

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        chosen, features = self._memory.choose(rows, frames, episode_starts)
        actions = chosen if self._mapping is None else self._mapping.choose(chosen, features, self._rng)
        if self._random_share:
            is_random = self._rng.random(len(rows)) < self._random_share
            drawn = self._rng.integers(NUM_REAL_ACTIONS, size=len(rows), dtype=np.int32)
            actions = np.where(is_random, drawn, actions)
        if self._mapping is None:
            self._memory.replace(rows, actions)
        return actions


def latent_driver(folder: str, seed: int = 0) -> Callable[[np.ndarray, np.ndarray], int]:
    """A cloned policy that plays on the page: a driver as ``genie_gym.play.drivers`` wants it.

    ``python -m genie_gym.cli play --policy "agents/acting.py:latent_driver(FOLDER)"``, from a clone.

    Args:
        folder: Of the policy.
        seed: Of its choices.

    Raises:
        ValueError: If there is no policy in the folder.
    """
    policy, rng = load_policy(Path(folder)), np.random.default_rng(seed)
    length = policy.config.context_length

    @torch.no_grad()
    def drive(frames: np.ndarray, latent_actions: np.ndarray) -> int:
        missing = max(0, length - len(frames))
        seen = np.concatenate([frames[:1].repeat(missing, axis=0), frames[-length:]])
        past = np.concatenate([np.full(missing, policy.num_actions), latent_actions[max(0, len(frames) - length) :]])
        shares = policy(to_float(seen)[None], torch.from_numpy(past)[None]).double().softmax(dim=-1)
        return int(draw_from(shares.numpy().cumsum(axis=1), rng)[0])

    return drive
