"""Mappings from latent to real actions, fitted on a few labelled samples (Genie, sec. 3.3 and appendix E)."""

from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from agents.game import COINRUN, Game
from agents.labelling import label_dataset
from agents.windows import draw_labelled, read_real_actions
from genie_gym.data.clips import ClipDataset
from genie_gym.models.world_model import GenieWorldModel


class Mapping(Protocol):
    """Maps the latent actions that a policy chose to real actions."""

    num_latent_actions: int

    def choose(self, latent_actions: np.ndarray, features: Tensor, rng: np.random.Generator) -> np.ndarray:
        """Map (B,) latent actions to (B,) int32 real ones; ``features`` (B, D) are those the policy chose them from."""


class ActionMapping:
    """The paper's dictionary: samples one of the real actions that labelled samples have for a latent action.

    It ignores the observation. For a latent action without samples, it samples from the real actions of all samples:
    ``unseen`` lists such latent actions, and ``fallbacks`` counts how often one was mapped.

    Args:
        counts: (A, R) number of samples for each latent and real action.
        game: Game with R real actions.

    Raises:
        ValueError: If ``counts`` have another shape, or are negative or all zero.
    """

    def __init__(self, counts: np.ndarray, game: Game = COINRUN) -> None:
        if counts.ndim != 2 or counts.shape[1] != game.num_actions or (counts < 0).any() or counts.sum() == 0:
            raise ValueError(f"counts must be (A, {game.num_actions}) of one sample or more, got {counts!r}")
        self.counts, self._game = counts, game
        self.num_latent_actions = len(counts)
        self.unseen = np.flatnonzero(counts.sum(axis=1) == 0)
        self.fallbacks = 0
        sampled = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, counts.sum(axis=0))  # (A, R)
        self._sums = (sampled / sampled.sum(axis=1, keepdims=True)).cumsum(axis=1)

    @classmethod
    def fit(
        cls, latent_actions: np.ndarray, real_actions: np.ndarray, num_latent_actions: int, game: Game = COINRUN
    ) -> "ActionMapping":
        """Return the mapping of M samples, given by integer arrays (M,) of latent and of real actions.

        Raises:
            ValueError: If there is no sample, the numbers of samples differ, or an action is out of range.
        """
        if latent_actions.shape != real_actions.shape or real_actions.ndim != 1 or len(real_actions) == 0:
            shapes = latent_actions.shape, real_actions.shape
            raise ValueError(f"latent_actions and real_actions must be (M,) of one sample or more, got {shapes}")
        latents, reals = (latent_actions, num_latent_actions), (real_actions, game.num_actions)
        for field, (actions, number) in {"latent_actions": latents, "real_actions": reals}.items():
            if not np.issubdtype(actions.dtype, np.integer):
                raise ValueError(f"{field} must be integers, got {actions.dtype}")
            wrong = actions[(actions < 0) | (actions >= number)]
            if wrong.size:
                raise ValueError(f"{field} must be in [0, {number}), got {wrong[0]}")
        counts = np.zeros((num_latent_actions, game.num_actions), dtype=np.int64)
        np.add.at(counts, (latent_actions, real_actions), 1)
        return cls(counts, game)

    def entropies(self) -> tuple[float, float]:
        """Return the entropy of the samples' moves in bits, and their entropy given the latent action.

        The difference is the mutual information of moves and latent actions, over-estimated if samples are few.
        Real actions with the same effect count as one move.
        """
        moves = np.stack([np.bincount(self._game.moves, weights=row) for row in self.counts])  # (A, R) -> (A, moves)
        shares = moves.sum(axis=1) / moves.sum()
        given = sum(float(share) * _entropy(row) for share, row in zip(shares, moves, strict=True))
        return _entropy(moves.sum(axis=0)), given

    def choose(self, latent_actions: np.ndarray, features: Tensor, rng: np.random.Generator) -> np.ndarray:
        """Sample real actions; ``features`` are ignored."""
        self.fallbacks += int(np.isin(latent_actions, self.unseen).sum())
        return draw_from(self._sums[latent_actions], rng)


def map_from_recordings(
    world: GenieWorldModel, labelled: Path, labels: int, seed: int, game: Game = COINRUN
) -> ActionMapping:
    """Fit the paper's dictionary on ``labels`` samples from the recordings in ``labelled``, with a world's labels.

    Raises:
        ValueError: If there are fewer samples than ``labels``.
    """
    actions = read_real_actions(labelled)
    numbers = draw_labelled(actions, labels, seed)
    latents = label_dataset(world, ClipDataset(labelled, clip_length=2))
    return ActionMapping.fit(latents[numbers], actions[numbers], world.config.num_latent_actions, game)


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy in bits of the distribution given by counts; 0 if all are 0."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum())


def draw_from(sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample (B,) int32 indices from B distributions, given by their cumulative sums (B, R)."""
    wanted = rng.random(len(sums))[:, None] * sums[:, -1:]
    return np.minimum((sums <= wanted).sum(axis=1), sums.shape[1] - 1).astype(np.int32)
