"""Merging many fine codes of transitions into a few latent actions, without any label.

A key is held for several frames, so codes that stand for one key are followed by the same codes: moving off to the
right and running to the right are both followed by running to the right. Merging such codes loses little of what one
code tells about the next. This is the agglomerative information bottleneck (Slonim and Tishby 1999) with the next code
as the relevant variable.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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
