"""Merging many fine codes of transitions, or their latents, into a few latent actions, without any label.

A key is held for several frames, so codes that stand for one key are followed by the same codes: moving off to the
right and running to the right are both followed by running to the right. Merging such codes loses little of what one
code tells about the next. This is the agglomerative information bottleneck (Slonim and Tishby 1999) with the next code
as the relevant variable.

Latents are merged where they lie close together (k-means), whatever their codes are: where a model uses few of its
codes, its latents still tell more.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_RESTARTS, _MOST_ROUNDS = 8, 100
"""Number of times that k-means begins anew, and its largest number of rounds each time."""
_LEAST_GAIN = 1e-9
"""Mutual information in nats from which on a code moves, so that rounding does not move it back and forth."""


def merge_codes(sequences: Tensor, vectors: Tensor, groups: int) -> Tensor:
    """Merge codes into groups so that the group of a transition tells as much as possible about the next group.

    Pairs of groups are merged one after the other, always the pair that loses the least mutual information between
    successive groups. Then codes move one by one to the group where they leave the most, until none of them gains. A
    code that does not occur joins the group of the occurring code nearest to it.

    Args:
        sequences: (B, T) int64 codes of successive transitions.
        vectors: (codes, dim) vector of each code.
        groups: Number of groups; of fewer codes that occur, each is a group.

    Returns:
        (codes,) int64 group of each code; group 0 is the most frequent.
    """
    codes = len(vectors)
    flat = sequences[:, :-1].flatten() * codes + sequences[:, 1:].flatten()
    pairs = torch.bincount(flat, minlength=codes**2).view(codes, codes).double()
    used = (pairs.sum(dim=0) + pairs.sum(dim=1)).nonzero()[:, 0]
    groups = min(groups, len(used))
    pairs = pairs[used][:, used]
    group_of = _move_codes(pairs, _merge_greedily(pairs, groups), groups)
    frequencies = torch.zeros(groups, dtype=torch.float64).index_add_(0, group_of, pairs.sum(dim=1))
    group_of = frequencies.argsort(descending=True).argsort()[group_of]
    nearest = torch.cdist(vectors.float(), vectors[used].float()).argmin(dim=1)
    nearest[used] = torch.arange(len(used))
    return group_of[nearest]


def find_centres(latents: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Return the centres of clusters by k-means (Lloyd 1982), the best of several starts by k-means++.

    Args:
        latents: (M, dim) float32.
        clusters: Number of clusters, at most M.
        seed: Seed of the starts.

    Returns:
        (clusters, dim), that of the largest cluster first.
    """
    generator = torch.Generator().manual_seed(seed)
    fitted = [_run_lloyd(latents, _spread_out(latents, clusters, generator)) for _ in range(_RESTARTS)]
    centres, _ = min(fitted, key=lambda each: each[1])
    sizes = torch.bincount(torch.cdist(latents, centres).argmin(dim=1), minlength=clusters)
    return centres[sizes.argsort(descending=True, stable=True)]


def _spread_out(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Return first centres (clusters, dim): points drawn with the squared distance to those before (k-means++)."""
    chosen = [points[torch.randint(len(points), (1,), generator=generator)]]
    distances = torch.full((len(points),), torch.inf)
    for _ in range(clusters - 1):
        distances = torch.minimum(distances, (points - chosen[-1]).square().sum(dim=1))
        weights = distances if distances.sum() > 0 else torch.ones_like(distances)  # fewer points than clusters differ
        chosen.append(points[torch.multinomial(weights, 1, generator=generator)])
    return torch.cat(chosen)


def _run_lloyd(points: Tensor, centres: Tensor) -> tuple[Tensor, float]:
    """Move centres to the means of their points until none moves; return them and the mean squared distance."""
    nearest = torch.full((len(points),), -1)
    for _ in range(_MOST_ROUNDS):
        distances, found = torch.cdist(points, centres).min(dim=1)
        if torch.equal(found, nearest):
            break
        nearest = found
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres, float(distances.square().mean())


def mutual_information(pairs: Tensor) -> float:
    """Return the mutual information in nats of a table of counts."""
    shares = pairs / pairs.sum()
    independent = shares.sum(dim=1, keepdim=True) * shares.sum(dim=0, keepdim=True)
    present = shares > 0
    return float((shares[present] * (shares[present] / independent[present]).log()).sum())


def _merge_greedily(pairs: Tensor, groups: int) -> Tensor:
    """Merge groups, each a code at first, until ``groups`` are left; return the (codes,) int64 group of each code."""
    members = [[code] for code in range(len(pairs))]
    while len(members) > groups:
        kept, gone = _find_cheapest_merge(pairs)
        members[kept] += members.pop(gone)
        pairs = _merge_pair(pairs, kept, gone)
    group_of = torch.zeros(sum(map(len, members)), dtype=torch.int64)
    for group, each in enumerate(members):
        group_of[each] = group
    return group_of


def _move_codes(pairs: Tensor, group_of: Tensor, groups: int) -> Tensor:
    """Move codes to the groups that leave the most mutual information, until no single move gains any."""

    def left(grouping: Tensor) -> float:
        membership = F.one_hot(grouping, groups).double()
        return mutual_information(membership.T @ pairs @ membership)

    group_of, has_moved = group_of.clone(), True
    while has_moved:
        has_moved = False
        for code in range(len(pairs)):
            if (group_of == group_of[code]).sum() == 1:
                continue  # no group is left without a code
            candidates = group_of.repeat(groups, 1)
            candidates[:, code] = torch.arange(groups)
            information = [left(each) for each in candidates]
            best = max(range(groups), key=information.__getitem__)
            if information[best] > information[group_of[code]] + _LEAST_GAIN:
                group_of[code], has_moved = best, True
    return group_of


def _find_cheapest_merge(pairs: Tensor) -> tuple[int, int]:
    """Return the two groups, the lower number first, whose merging leaves the most mutual information."""
    candidates = [(kept, gone) for gone in range(len(pairs)) for kept in range(gone)]
    return max(candidates, key=lambda pair: mutual_information(_merge_pair(pairs, *pair)))


def _merge_pair(pairs: Tensor, kept: int, gone: int) -> Tensor:
    """Return counts in which the rows and columns of two groups are added and the second is left out."""
    merged = pairs.clone()
    merged[kept] += merged[gone]
    merged[:, kept] += merged[:, gone]
    rest = [group for group in range(len(pairs)) if group != gone]
    return merged[rest][:, rest]
