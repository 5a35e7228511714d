"""Real actions of videos by decoders that were fitted to a few labelled samples, after LAPO+ (arXiv 2602.02762).

A decoder returns a distribution over the moves of each transition; a policy of real actions is cloned from these. One
decoder reads the features of a frozen latent action model, which has seen all videos. The other, an inverse model
(``agents.inverse_decoder``), learns from the frames of the labelled samples alone.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.game import Game
from agents.labelling import NO_LABEL
from agents.mapping import draw_from
from agents.regression import choose_penalty, fit_logistic
from genie_gym.checks import require

_PART = 65_536  # transitions processed at once
_RIDGE = 0.01  # penalty of residuals' weights, as a share of the variance of standardised features


class FeatureResiduals:
    """The part of a transition's features that those of the previous transition do not predict.

    Features show how fast things moved already, which tells what the player tends to do. A policy knows that from its
    frames, and it must not count twice. What is left shows what the action changed. A linear regression predicts the
    features from those of the previous transition; for the first transition of an episode it predicts their mean.

    Args:
        features: (F, D) features of all frames of the videos, NaN at the last frame of an episode.
        episode_starts: (F,) bool: True for the first frame of an episode.
    """

    def __init__(self, features: np.ndarray, episode_starts: np.ndarray) -> None:
        width = features.shape[1]
        self._mean, self._std, self._weights = torch.zeros(width), torch.ones(width), torch.zeros(width, width)
        self._mean, self._std = self._measure(features, episode_starts)  # without weights: of the features themselves
        products, number = torch.zeros(2, width, width, dtype=torch.float64), 0
        for _, now, before in self._pair(features, episode_starts):
            products += torch.stack([before.T @ before, before.T @ now]).double()
            number += len(now)
        penalty = _RIDGE * number * torch.eye(width)
        self._weights = torch.linalg.solve(products[0] + penalty, products[1]).float()
        self._scale = self._measure(features, episode_starts)[1]

    def find(self, features: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        """Return the residuals (F, D) float32 of features (F, D); NaN where those are, of variance 1 on the videos."""
        found = np.full(features.shape, np.nan, dtype=np.float32)
        for numbers, now, before in self._pair(features, episode_starts):
            found[numbers] = ((now - before @ self._weights) / self._scale).numpy()
        return found

    def _measure(self, features: np.ndarray, episode_starts: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation (D,) of what is left of all transitions' features."""
        sums, number = torch.zeros(2, features.shape[1], dtype=torch.float64), 0
        for _, now, before in self._pair(features, episode_starts):
            left = (now - before @ self._weights).double()
            sums += torch.stack([left.sum(dim=0), left.square().sum(dim=0)])
            number += len(left)
        mean, square = sums / number
        return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float() + 1e-3

    def _pair(self, features: np.ndarray, episode_starts: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Yield transitions' frames (M,), their standardised features (M, D), and those before; 0 before an episode.

        They come in parts, since a million transitions would take gigabytes.
        """
        has_next = np.flatnonzero(~np.isnan(features[:, 0]))
        for first in range(0, len(has_next), _PART):
            numbers = has_next[first : first + _PART]
            now, before = (
                (torch.from_numpy(features[each]).float() - self._mean) / self._std for each in (numbers, numbers - 1)
            )
            before[torch.from_numpy(episode_starts[numbers])] = 0
            yield numbers, now, before


class FeatureDecoder:
    """Logistic regression of the move on a transition's features, with a penalty chosen within the samples.

    Args:
        features: (M, D) features of the M labelled samples, from ``describe_dataset`` or their ``FeatureResiduals``.
        real_actions: (M,) real actions of the samples.
        game: Game with R real actions.

    Raises:
        ValueError: If there are fewer than two samples, the numbers differ, or an action is out of range.
    """

    def __init__(self, features: np.ndarray, real_actions: np.ndarray, game: Game) -> None:
        self._moves = Moves(real_actions, len(features), game)
        targets, kinds = self._moves.targets, len(self._moves.kinds)
        seen = torch.from_numpy(features).float()
        self._mean, self._std = seen.mean(dim=0), seen.std(dim=0) + 1e-3
        inputs = self._scale(seen)
        self.penalty = choose_penalty(inputs, targets, kinds)
        self._weights = fit_logistic(inputs, targets, kinds, self.penalty)

    def decode(self, features: np.ndarray) -> np.ndarray:
        """Return the distributions (F, R) float16 of features (F, D); zeros where they are NaN, without transition."""
        parts = []
        for first in range(0, len(features), _PART):
            part = torch.from_numpy(features[first : first + _PART]).float()
            shares = (self._scale(part) @ self._weights).softmax(dim=1)
            parts.append(self._moves.spread(shares).nan_to_num(0.0).half().numpy())
        return np.concatenate(parts)

    def _scale(self, features: Tensor) -> Tensor:
        """Standardise features (F, D) to a total variance of about 1, and append a constant: (F, D + 1)."""
        return F.pad((features - self._mean) / self._std / features.shape[1] ** 0.5, (0, 1), value=1.0)


class Moves:
    """The moves of the labelled samples as classes of a decoder; real actions with the same effect are one move.

    A move that no sample shows is never decoded: nothing is known of its transitions.

    Args:
        real_actions: (M,) real actions of the samples.
        samples: Number of samples, M.
        game: Game with R real actions.

    Raises:
        ValueError: If there are not ``samples`` actions, two or more, or one is out of range.
    """

    def __init__(self, real_actions: np.ndarray, samples: int, game: Game) -> None:
        shape, wanted = real_actions.shape, f"({samples},), two samples or more"
        require(shape == (samples,) and samples >= 2, "real_actions", shape, wanted)
        wrong = real_actions[(real_actions < 0) | (real_actions >= game.num_actions)]
        if wrong.size:
            raise ValueError(f"real_actions must be in [0, {game.num_actions}), got {wrong[0]}")
        self.kinds, numbers = np.unique(game.moves[real_actions], return_inverse=True)
        """(K,) a real action for each of the K moves."""
        self.targets = torch.from_numpy(numbers)
        """(M,) int64 class of each sample."""
        self.actions = game.num_actions
        """Number of real actions, R."""

    def spread(self, shares: Tensor) -> Tensor:
        """Return distributions (F, R) over real actions from shares (F, K) of moves.

        They are mixed with one more sample, of any of these moves, beside the samples that they come from.
        """
        kinds, samples = len(self.kinds), len(self.targets)
        mixed = (shares * samples + 1 / kinds) / (samples + 1)
        spread = torch.zeros(len(shares), self.actions)
        spread[:, torch.from_numpy(self.kinds)] = mixed
        return torch.where(mixed.isnan().any(dim=1, keepdim=True), torch.nan, spread)


def draw_relabels(distributions: np.ndarray, seed: int) -> np.ndarray:
    """Draw an action (F,) int64 from each frame's distribution (F, R); ``NO_LABEL`` where it is all zeros."""
    sums = distributions.astype(np.float32).cumsum(axis=1)
    drawn = draw_from(sums, np.random.default_rng(seed)).astype(np.int64)
    return np.where(sums[:, -1] > 0, drawn, NO_LABEL)
