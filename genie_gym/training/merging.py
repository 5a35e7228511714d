"""Merging many fine codes of transitions into a few latent actions, without any label.

A key is held for several frames, so codes that stand for one key are followed by the same codes: moving off to the
right and running to the right are both followed by running to the right. Merging such codes loses little of what one
code tells about the next. This is the agglomerative information bottleneck (Slonim and Tishby 1999) with the next code
as the relevant variable.
"""

import torch
from torch import Tensor


def merge_codes(sequences: Tensor, vectors: Tensor, groups: int) -> Tensor:
    """Merge codes into groups so that the group of a transition tells as much as possible about the next group.

    Pairs of groups are merged one after the other, always the pair that loses the least mutual information between
    successive groups. A code that does not occur joins the group of the occurring code nearest to it.

    Args:
        sequences: (B, T) int64 codes of successive transitions.
        vectors: (codes, dim) vector of each code.
        groups: Number of groups.

    Returns:
        (codes,) int64 group of each code; group 0 is the most frequent.

    Raises:
        ValueError: If fewer than ``groups`` codes occur.
    """
    codes = len(vectors)
    flat = sequences[:, :-1].flatten() * codes + sequences[:, 1:].flatten()
    pairs = torch.bincount(flat, minlength=codes**2).view(codes, codes).double()
    used = (pairs.sum(dim=0) + pairs.sum(dim=1)).nonzero()[:, 0]
    if len(used) < groups:
        raise ValueError(f"sequences must hold at least {groups} different codes, got {len(used)}")
    members, pairs = [[int(code)] for code in used], pairs[used][:, used]
    while len(members) > groups:
        kept, gone = _find_cheapest_merge(pairs)
        members[kept] += members.pop(gone)
        pairs = _merge_pair(pairs, kept, gone)
    members = [members[group] for group in pairs.sum(dim=1).argsort(descending=True).tolist()]
    nearest = used[torch.cdist(vectors.float(), vectors[used].float()).argmin(dim=1)].tolist()
    group_of = {code: group for group, each in enumerate(members) for code in each}
    return torch.tensor([group_of.get(code, group_of[nearest[code]]) for code in range(codes)])


def mutual_information(pairs: Tensor) -> float:
    """Return the mutual information in nats of a table of counts."""
    shares = pairs / pairs.sum()
    independent = shares.sum(dim=1, keepdim=True) * shares.sum(dim=0, keepdim=True)
    present = shares > 0
    return float((shares[present] * (shares[present] / independent[present]).log()).sum())


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
