"""Logistic regression on a few samples, its penalty chosen by cross-validation."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PENALTIES = tuple(float(penalty) for penalty in 10.0 ** np.arange(-4.0, 0.6, 0.5))
"""Weights of the quadratic penalty to choose from."""
FOLDS = 5
"""Number of parts of the samples, each of which is held out once."""


def fit_logistic(inputs: Tensor, targets: Tensor, classes: int, penalty: float) -> Tensor:
    """Return the weights (D, classes) that minimise the cross-entropy of ``inputs @ weights`` plus a penalty.

    Args:
        inputs: (M, D) float32; the last column is a constant, whose weights are not penalised.
        targets: (M,) int64 classes.
        classes: Number of classes.
        penalty: Weight of the sum of squared weights.
    """
    weights = torch.zeros(inputs.shape[1], classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def penalised_loss() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weights, targets) + penalty * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(penalised_loss)
    return weights.requires_grad_(False)


def choose_penalty(inputs: Tensor, targets: Tensor, classes: int, penalties: Sequence[float] = PENALTIES) -> float:
    """Return the penalty whose regressions predict held-out samples best by cross-entropy; see ``fit_logistic``.

    Each of ``FOLDS`` parts of the M samples, two or more, is held out once.
    """
    parts = split_folds(len(targets))

    def held_out_loss(penalty: float) -> float:
        losses = []
        for part in parts.unique():
            is_out = parts == part
            weights = fit_logistic(inputs[~is_out], targets[~is_out], classes, penalty)
            losses.append(F.cross_entropy(inputs[is_out] @ weights, targets[is_out], reduction="sum"))
        return float(torch.stack(losses).sum())

    return min(penalties, key=held_out_loss)


def split_folds(samples: int) -> Tensor:
    """Return the fold (M,) int64 of each of M samples: ``FOLDS`` parts of equal size, up to one sample."""
    return torch.arange(samples) % FOLDS
