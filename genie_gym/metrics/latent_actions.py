"""Latent actions compared with the true actions, which only metrics may read.

Frames do not determine the action: momentum can hide it, and a player that runs against a wall does not move. So an
accuracy is reported between chance and the *ceiling*, the accuracy of a supervised model with the same inputs.
"""

from typing import Any

import torch
from torch import Tensor

from genie_gym.metrics.action_groups import PROCGEN_GROUPS, ActionGroups
from genie_gym.nn.quantizer import perplexity

USED_SHARE = 0.02
"""Smallest share of the transitions at which a latent action counts as used."""


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


def fit_maps(
    labels: Tensor, real_actions: Tensor, latent_actions: int, groups: ActionGroups = PROCGEN_GROUPS
) -> dict[str, Tensor]:
    """Return ``fit_map`` for each grouping, given (B, T - 1) labels and actions of clips that are not scored."""
    kinds = groups.group(real_actions)
    return {
        name: fit_map(count_pairs(labels, kinds[name], latent_actions, size)) for name, size in groups.sizes.items()
    }


def score_labels(
    labels: Tensor,
    real_actions: Tensor,
    maps: dict[str, Tensor],
    ceiling: dict[str, Tensor] | None = None,
    groups: ActionGroups = PROCGEN_GROUPS,
) -> dict[str, Any]:
    """Compare latent actions with true actions.

    Args:
        labels: (B, T - 1) latent actions.
        real_actions: (B, T - 1) true actions.
        maps: Maps from ``fit_maps``.
        ceiling: (B, T - 1) predictions of a supervised model for each grouping, if there is one.
        groups: Groupings of the game's actions.

    Returns:
        ``nmi`` with the finest grouping; for each grouping balanced ``accuracy``, ``chance``, ``ceiling``, and
        ``kept``, the label's gain over chance as a share of the ceiling's, None if the ceiling gains nothing.
    """
    grouped, sizes, finest = groups.group(real_actions), groups.sizes, groups.finest
    counts = count_pairs(labels, grouped[finest], len(maps[finest]), sizes[finest])
    scores: dict[str, Any] = {"nmi": normalized_mutual_information(counts)}
    for name, kinds in grouped.items():
        chance = 1 / kinds.unique().numel()
        accuracy = balanced_accuracy(maps[name][labels], kinds, sizes[name])
        scores[name] = {"accuracy": accuracy, "chance": chance}
        if ceiling is not None:
            best = balanced_accuracy(ceiling[name], kinds, sizes[name])
            kept = (accuracy - chance) / (best - chance) if best > chance else None
            scores[name] |= {"ceiling": best, "kept": kept}
    return scores


def _entropy(shares: Tensor) -> float:
    present = shares[shares > 0]
    return float(-(present * present.log()).sum())
