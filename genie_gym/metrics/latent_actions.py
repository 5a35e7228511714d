"""Latent actions compared with the true actions, which only metrics may read.

Frames do not determine the action: momentum can hide it, and a player that runs against a wall does not move. So an
accuracy is reported between chance and the *ceiling*, the accuracy of a supervised model with the same inputs.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_gym.data.procgen import NUM_MOVES, direction, vertical
from genie_gym.nn.quantizer import perplexity

USED_SHARE = 0.02
"""Smallest share of the transitions at which a latent action counts as used."""
IDLE = 4
"""The move that does nothing; Procgen's special keys do the same in CoinRun."""
GROUPS = {"direction": 3, "up": 2, "effective": NUM_MOVES}
"""Groupings of CoinRun's 15 real actions -> number of kinds in each."""
GROUP_NAMES = {"direction": "left / still / right", "up": "up / none", "effective": "nine moves"}
"""Readable names of ``GROUPS``."""


def group_actions(real_actions: Tensor) -> dict[str, Tensor]:
    """Map real actions (any shape, int64) to their kinds in each of ``GROUPS``; ``ValueError`` if not in [0, 15)."""
    actions = real_actions.numpy()
    kinds = {
        "direction": direction(actions) + 1,
        "up": vertical(actions) == 1,
        "effective": np.where(actions < NUM_MOVES, actions, IDLE),
    }
    return {name: torch.from_numpy(np.asarray(kind, dtype=np.int64)) for name, kind in kinds.items()}


def count_pairs(labels: Tensor, kinds: Tensor, num_labels: int, num_kinds: int) -> Tensor:
    """Return (num_labels, num_kinds) float64 counts of each pair, given int64 labels and kinds of one shape."""
    flat = labels.flatten() * num_kinds + kinds.flatten()
    return torch.bincount(flat, minlength=num_labels * num_kinds).view(num_labels, num_kinds).double()


def normalized_mutual_information(counts: Tensor) -> float:
    """Return 2 I(label; kind) / (H(label) + H(kind)) from a table of counts, in [0, 1]; 0 if either is constant."""
    shares = counts / counts.sum()
    label, kind, both = (_entropy(each) for each in (shares.sum(dim=1), shares.sum(dim=0), shares.flatten()))
    return 0.0 if min(label, kind) <= 0 else max(0.0, 2 * (label + kind - both) / (label + kind))


def fit_map(counts: Tensor) -> Tensor:
    """Return the (num_labels,) int64 map from labels to kinds with the best balanced accuracy on the counted clips.

    A label is mapped to the kind that maximises count(label, kind) / count(kind).
    """
    return (counts / counts.sum(dim=0).clamp(min=1)).argmax(dim=1)


def balanced_accuracy(predicted: Tensor, kinds: Tensor, num_kinds: int) -> float:
    """Return the mean recall over the kinds that occur."""
    confusion = count_pairs(kinds, predicted, num_kinds, num_kinds)
    occurring = confusion.sum(dim=1)
    present = occurring > 0
    return float((confusion.diagonal()[present] / occurring[present]).mean())


def score_use(labels: Tensor, latent_actions: int) -> dict[str, Any]:
    """Return the number of ``transitions`` of (B, T - 1) labels, ``shares``, number ``used`` and ``perplexity``."""
    shares = torch.bincount(labels.flatten(), minlength=latent_actions) / labels.numel()
    return {
        "transitions": labels.numel(),
        "shares": [round(float(share), 4) for share in shares],
        "used": int((shares >= USED_SHARE).sum()),
        "perplexity": float(perplexity(labels, latent_actions)),
    }


def fit_maps(labels: Tensor, real_actions: Tensor, latent_actions: int) -> dict[str, Tensor]:
    """Return ``fit_map`` for each of ``GROUPS``, given (B, T - 1) labels and actions of clips that are not scored."""
    kinds = group_actions(real_actions)
    return {name: fit_map(count_pairs(labels, kinds[name], latent_actions, size)) for name, size in GROUPS.items()}


def score_labels(
    labels: Tensor, real_actions: Tensor, maps: dict[str, Tensor], ceiling: dict[str, Tensor] | None = None
) -> dict[str, Any]:
    """Compare latent actions with true actions.

    Args:
        labels: (B, T - 1) latent actions.
        real_actions: (B, T - 1) true actions.
        maps: Maps from ``fit_maps``.
        ceiling: (B, T - 1) predictions of a supervised model for each of ``GROUPS``, if there is one.

    Returns:
        ``nmi`` with the nine moves; for each of ``GROUPS`` balanced ``accuracy``, ``chance``, ``ceiling``, and
        ``kept``, the label's gain over chance as a share of the ceiling's, None if the ceiling gains nothing.
    """
    grouped = group_actions(real_actions)
    counts = count_pairs(labels, grouped["effective"], len(maps["effective"]), NUM_MOVES)
    scores: dict[str, Any] = {"nmi": normalized_mutual_information(counts)}
    for name, kinds in grouped.items():
        chance = 1 / kinds.unique().numel()
        accuracy = balanced_accuracy(maps[name][labels], kinds, GROUPS[name])
        scores[name] = {"accuracy": accuracy, "chance": chance}
        if ceiling is not None:
            best = balanced_accuracy(ceiling[name], kinds, GROUPS[name])
            kept = (accuracy - chance) / (best - chance) if best > chance else None
            scores[name] |= {"ceiling": best, "kept": kept}
    return scores


def _entropy(shares: Tensor) -> float:
    present = shares[shares > 0]
    return float(-(present * present.log()).sum())
