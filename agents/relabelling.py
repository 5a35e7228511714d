"""Real actions of videos by decoders that were fitted to a few labelled samples, after LAPO+ (arXiv 2602.02762).

A decoder returns a distribution over the moves of each transition; a policy of real actions is cloned from these. One
decoder reads the features of a frozen latent action model, which has seen all videos. The other, an inverse model
(``agents.inverse_decoder``), learns from the frames of the labelled samples alone.
"""

import numpy as np
import torch
from torch import Tensor

from agents.game import Game
from agents.labelling import NO_LABEL
from agents.mapping import draw_from
from agents.regression import Scaling, choose_penalty, fit_logistic
from genie_gym.checks import require

_DECODED_AT_ONCE = 65_536  # transitions in a batch
_LEAST_SHARE = 1e-4  # below it, shares count as equally small
_FITTED, _EXPECTATION_PENALTY = 65_536, 1e-5  # most transitions that expectations are fitted to, and their penalty


class FeatureDecoder:
    """Logistic regression of the move on a transition's features, with a penalty chosen within the samples.

    Args:
        features: (M, D) features of the M labelled samples, from ``describe_dataset``.
        real_actions: (M,) real actions of the samples.
        game: Game with R real actions.

    Raises:
        ValueError: If there are fewer than two samples, the numbers differ, or an action is out of range.
    """

    def __init__(self, features: np.ndarray, real_actions: np.ndarray, game: Game) -> None:
        self._moves = Moves(real_actions, len(features), game)
        targets, kinds = self._moves.targets, len(self._moves.kinds)
        seen = torch.from_numpy(features).float()
        self._scaling = Scaling(seen)
        inputs = self._scaling.scale(seen)
        self.penalty = choose_penalty(inputs, targets, kinds)
        self._weights = fit_logistic(inputs, targets, kinds, self.penalty)

    def decode(self, features: np.ndarray) -> np.ndarray:
        """Return the distributions (F, R) float16 of features (F, D); zeros where they are NaN, without transition."""
        parts = []
        for first in range(0, len(features), _DECODED_AT_ONCE):
            part = torch.from_numpy(features[first : first + _DECODED_AT_ONCE]).float()
            shares = (self._scaling.scale(part) @ self._weights).softmax(dim=1)
            parts.append(self._moves.spread(shares).nan_to_num(0.0).half().numpy())
        return np.concatenate(parts)


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


def expect_next(inputs: np.ndarray, distributions: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
    """Return what a decoder would say on average of each transition, before it is seen: (F, R) float16.

    A transition shows more than what its action changed: how fast things moved already tells what the player tends to
    do. So a decoder's distribution q holds knowledge that a policy, which sees the frames before, has too and must not
    count twice. The ratio of q to this expectation is what the action's effect alone tells.

    Args:
        inputs: (F, D) what is known of the transition before, such as its features; those of each transition itself.
        distributions: (F, R) decoded distributions q; zeros at the last frame of an episode, which has no transition.
        episode_starts: (F,) bool: True for the first frame of an episode.

    Returns:
        A logistic regression of q on the inputs of the transition before; the mean of q for the first transition of an
        episode; zeros where q has zeros.
    """
    shown, decoded = distributions.any(axis=1), torch.from_numpy(distributions).float()
    mean = decoded[torch.from_numpy(shown)].mean(dim=0)
    kinds = torch.nonzero(mean)[:, 0]
    after = np.flatnonzero(shown & ~episode_starts)  # transitions with one before them
    expected = torch.from_numpy(shown)[:, None] * mean  # (F, R)
    fitted = after[:: 1 + len(after) // _FITTED]
    before = torch.from_numpy(inputs[fitted - 1]).float()
    scaling = Scaling(before)
    weights = fit_logistic(scaling.scale(before), decoded[fitted][:, kinds], len(kinds), _EXPECTATION_PENALTY)
    for part in np.array_split(after, 1 + len(after) // _DECODED_AT_ONCE):
        shares = (scaling.scale(torch.from_numpy(inputs[part - 1]).float()) @ weights).softmax(dim=1)
        expected[torch.from_numpy(part)[:, None], kinds] = shares
    return expected.half().numpy()


def draw_relabels(distributions: np.ndarray, seed: int) -> np.ndarray:
    """Draw an action (F,) int64 from each frame's distribution (F, R); ``NO_LABEL`` where it is all zeros."""
    sums = distributions.astype(np.float32).cumsum(axis=1)
    drawn = draw_from(sums, np.random.default_rng(seed)).astype(np.int64)
    return np.where(sums[:, -1] > 0, drawn, NO_LABEL)


def log_shares(distributions: np.ndarray) -> np.ndarray:
    """Return the logarithms (F, R) float32 of distributions, as inputs of ``expect_next`` for want of features."""
    return np.log(np.maximum(distributions.astype(np.float32), _LEAST_SHARE))
