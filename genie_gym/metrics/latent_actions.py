"""A latent action model against the true actions, which are read here and nowhere else.

What a label says of an action is bounded by what the frames say: momentum hides the key, and who runs against a wall
does not move. So accuracies stand between chance and a *ceiling*, a supervised model with the same inputs.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_gym.data.procgen import NUM_MOVES, direction, vertical
from genie_gym.nn.quantizer import perplexity

USED_SHARE = 0.02
"""A latent action counts as used from this share of the transitions on."""
IDLE = 4
"""The move that does nothing, as Procgen's special keys do in CoinRun."""
GROUPS = {"direction": 3, "up": 2, "effective": NUM_MOVES}
"""Ways to see CoinRun's 15 real actions, and how many kinds each tells apart: left, still, right; up or not; the
nine moves."""


def group_actions(real_actions: Tensor) -> dict[str, Tensor]:
    """Real actions, any shape of int64 in [0, 15), as kinds of each of ``GROUPS``, the same shape.

    Raises:
        ValueError: If an action is not one of Procgen's.
    """
    actions = real_actions.numpy()
    kinds = {
        "direction": direction(actions) + 1,
        "up": vertical(actions) == 1,
        "effective": np.where(actions < NUM_MOVES, actions, IDLE),
    }
    return {name: torch.from_numpy(np.asarray(kind, dtype=np.int64)) for name, kind in kinds.items()}


def count_pairs(labels: Tensor, kinds: Tensor, num_labels: int, num_kinds: int) -> Tensor:
    """(num_labels, num_kinds) float64: how often each label meets each kind; both of one shape, int64."""
    flat = labels.flatten() * num_kinds + kinds.flatten()
    return torch.bincount(flat, minlength=num_labels * num_kinds).view(num_labels, num_kinds).double()


def normalized_mutual_information(counts: Tensor) -> float:
    """2 I(label; kind) / (H(label) + H(kind)) of a table of counts: 1 where one tells the other, 0 where neither does.

    Where one of the two never changes there is nothing to tell, and it is 0.
    """
    shares = counts / counts.sum()
    label, kind, both = (_entropy(each) for each in (shares.sum(dim=1), shares.sum(dim=0), shares.flatten()))
    return 0.0 if min(label, kind) <= 0 else max(0.0, 2 * (label + kind - both) / (label + kind))


def fit_map(counts: Tensor) -> Tensor:
    """(num_labels,) int64: for each label the kind that it is the largest share of.

    Of all maps from labels to kinds this has the best balanced accuracy on the clips that were counted.
    """
    return (counts / counts.sum(dim=0).clamp(min=1)).argmax(dim=1)


def balanced_accuracy(said: Tensor, kinds: Tensor, num_kinds: int) -> float:
    """Mean over the kinds that occur of the share of each that is said rightly."""
    confusion = count_pairs(kinds, said, num_kinds, num_kinds)
    occurring = confusion.sum(dim=1)
    present = occurring > 0
    return float((confusion.diagonal()[present] / occurring[present]).mean())


def score_use(labels: Tensor, latent_actions: int) -> dict[str, Any]:
    """How the latent actions (B, T - 1) are used."""
    shares = torch.bincount(labels.flatten(), minlength=latent_actions) / labels.numel()
    return {
        "transitions": labels.numel(),
        "shares": [round(float(share), 4) for share in shares],
        "used": int((shares >= USED_SHARE).sum()),
        "perplexity": float(perplexity(labels, latent_actions)),
    }


def fit_maps(labels: Tensor, real_actions: Tensor, latent_actions: int) -> dict[str, Tensor]:
    """``fit_map`` for each of ``GROUPS``, on clips that are not scored."""
    kinds = group_actions(real_actions)
    return {name: fit_map(count_pairs(labels, kinds[name], latent_actions, size)) for name, size in GROUPS.items()}


def score_labels(
    labels: Tensor, real_actions: Tensor, maps: dict[str, Tensor], ceiling: dict[str, Tensor] | None = None
) -> dict[str, Any]:
    """Labels against true actions.

    Args:
        labels: (B, T - 1) latent actions.
        real_actions: (B, T - 1).
        maps: From ``fit_maps``.
        ceiling: (B, T - 1) what a supervised model says, for each of ``GROUPS``; None where there is none.

    Returns:
        ``nmi`` with the nine moves; for each of ``GROUPS`` balanced ``accuracy``, ``chance``, ``ceiling``, and
        ``kept``: which share of the ceiling's gain over chance the label keeps, None where it gains nothing.
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
