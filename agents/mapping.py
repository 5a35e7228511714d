"""From latent to real actions with a few labelled samples (Genie, sec. 3.3 and appendix E)."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.labelling import label_dataset
from agents.windows import draw_labelled, read_real_actions
from genie_gym.data.clips import ClipDataset
from genie_gym.data.procgen import NUM_MOVES, NUM_REAL_ACTIONS, check_actions
from genie_gym.models.world_model import GenieWorldModel

STAY = 4
"""The move that does nothing."""


class Mapping(Protocol):
    """What turns a policy's latent actions into real ones."""

    num_latent_actions: int

    def choose(self, latent_actions: np.ndarray, features: Tensor, rng: np.random.Generator) -> np.ndarray:
        """(B,) latent actions, and the policy's features (B, D) of what it sees -> (B,) int32 real actions."""


class ActionMapping:
    """The paper's dictionary: each latent action's list of the real actions it was seen with, one drawn to act.

    It never looks at the observation. A latent action without samples draws from those of all others together;
    ``unseen`` names such latent actions and ``fallbacks`` counts how often one was asked for.

    Args:
        counts: (A, 15) how often each latent action met each real one.

    Raises:
        ValueError: If they are no counts of at least one sample.
    """

    def __init__(self, counts: np.ndarray) -> None:
        if counts.ndim != 2 or counts.shape[1] != NUM_REAL_ACTIONS or (counts < 0).any() or counts.sum() == 0:
            raise ValueError(f"counts must be (A, {NUM_REAL_ACTIONS}) of one sample or more, got {counts!r}")
        self.counts = counts
        self.num_latent_actions = len(counts)
        self.unseen = np.flatnonzero(counts.sum(axis=1) == 0)
        self.fallbacks = 0
        lists = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, counts.sum(axis=0))
        self._sums = (lists / lists.sum(axis=1, keepdims=True)).cumsum(axis=1)

    @classmethod
    def fit(cls, latent_actions: np.ndarray, real_actions: np.ndarray, num_latent_actions: int) -> "ActionMapping":
        """From labelled samples.

        Args:
            latent_actions: (M,) in [0, A).
            real_actions: (M,) in [0, 15).
            num_latent_actions: A.

        Raises:
            ValueError: If there is no sample, their numbers differ, or one is out of range.
        """
        actions = check_actions("real_actions", real_actions)
        if latent_actions.shape != actions.shape or actions.ndim != 1 or len(actions) == 0:
            shapes = latent_actions.shape, actions.shape
            raise ValueError(f"latent_actions and real_actions must be (M,) of one sample or more, got {shapes}")
        wrong = latent_actions[(latent_actions < 0) | (latent_actions >= num_latent_actions)]
        if wrong.size:
            raise ValueError(f"latent_actions must be in [0, {num_latent_actions}), got {wrong[0]}")
        counts = np.zeros((num_latent_actions, NUM_REAL_ACTIONS), dtype=np.int64)
        np.add.at(counts, (latent_actions, actions), 1)
        return cls(counts)

    def entropies(self) -> tuple[float, float]:
        """Bits of the samples' moves, before their latent action is known and after; special keys count as staying.

        Their difference is what the code says of the move, over-stated where samples are few.
        """
        moves = self.counts[:, :NUM_MOVES].astype(np.float64)
        moves[:, STAY] += self.counts[:, NUM_MOVES:].sum(axis=1)
        shares = moves.sum(axis=1) / moves.sum()
        return _bits(moves.sum(axis=0)), sum(
            float(share) * _bits(row) for share, row in zip(shares, moves, strict=True)
        )

    def majority(self) -> "ActionMapping":
        """Each latent action's most frequent real one alone; our own row beside the paper's."""
        most = np.zeros_like(self.counts)
        seen = self.counts.sum(axis=1) > 0
        most[seen, self.counts[seen].argmax(axis=1)] = self.counts[seen].sum(axis=1)
        return ActionMapping(most)

    def choose(self, latent_actions: np.ndarray, features: Tensor, rng: np.random.Generator) -> np.ndarray:
        """Draw from the lists; ``features`` are not looked at."""
        self.fallbacks += int(np.isin(latent_actions, self.unseen).sum())
        sums = self._sums[latent_actions]
        return draw_from(sums, rng)


class FeatureMapping:
    """Our own row: logistic regression on the latent action and on what the policy sees.

    Args:
        latent_actions: (M,) in [0, A).
        features: (M, D) of the policy, where those were.
        real_actions: (M,) in [0, 15).
        num_latent_actions: A.
        weight_decay: Of the quadratic penalty.

    Raises:
        ValueError: As ``ActionMapping.fit`` does.
    """

    def __init__(
        self,
        latent_actions: np.ndarray,
        features: Tensor,
        real_actions: np.ndarray,
        num_latent_actions: int,
        weight_decay: float = 1e-2,
    ) -> None:
        ActionMapping.fit(latent_actions, real_actions, num_latent_actions)  # the same must hold
        self.num_latent_actions = num_latent_actions
        self._mean, self._std = features.mean(dim=0), features.std(dim=0).clamp(min=1e-3)
        inputs, targets = self._inputs(latent_actions, features), torch.from_numpy(real_actions.astype(np.int64))
        self._weights = torch.zeros(inputs.shape[1], NUM_REAL_ACTIONS, requires_grad=True)
        optimizer = torch.optim.LBFGS([self._weights], max_iter=100, line_search_fn="strong_wolfe")

        def penalized_loss() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(inputs @ self._weights, targets) + weight_decay * self._weights.square().sum()
            loss.backward()
            return loss

        optimizer.step(penalized_loss)
        self._weights.requires_grad_(False)

    def choose(self, latent_actions: np.ndarray, features: Tensor, rng: np.random.Generator) -> np.ndarray:
        """Draw from the regression's shares."""
        shares = (self._inputs(latent_actions, features) @ self._weights).softmax(dim=-1)
        return draw_from(shares.double().numpy().cumsum(axis=1), rng)

    def _inputs(self, latent_actions: np.ndarray, features: Tensor) -> Tensor:
        latents = F.one_hot(torch.from_numpy(latent_actions.astype(np.int64)), self.num_latent_actions)
        scaled = (features - self._mean) / self._std / features.shape[1] ** 0.5
        return torch.cat([latents.float(), scaled, torch.ones(len(scaled), 1)], dim=1)


def map_from_recordings(world: GenieWorldModel, labelled: Path, labels: int, seed: int) -> ActionMapping:
    """The dictionary from a few samples of a folder of recordings.

    Args:
        world: Whose latent actions are mapped.
        labelled: Recordings with actions.
        labels: Samples that are looked at.
        seed: Of their draw.

    Raises:
        ValueError: If there are too few.
    """
    actions = read_real_actions(labelled)
    numbers = draw_labelled(actions, labels, seed)
    latents = label_dataset(world, ClipDataset(labelled, clip_length=2))
    return ActionMapping.fit(latents[numbers], actions[numbers], world.config.num_latent_actions)


def _bits(counts: np.ndarray) -> float:
    """Entropy of a distribution given by counts; 0 of none."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum())


def draw_from(sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B,) int32 drawn from B distributions, given by their running sums (B, R)."""
    wanted = rng.random(len(sums))[:, None] * sums[:, -1:]
    return np.minimum((sums <= wanted).sum(axis=1), sums.shape[1] - 1).astype(np.int32)
