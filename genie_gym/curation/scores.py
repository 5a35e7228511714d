"""Precision and recall of a rule on confidence, with intervals that count videos and not clips, and its threshold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genie_gym.metrics.controllability import wilson_interval


class Scored(NamedTuple):
    """Clips with what a person and a classifier say of them; all three have one entry a clip."""

    confidences: np.ndarray
    """(M,) float: probability that a clip is good."""
    is_good: np.ndarray
    """(M,) bool: whether it is good."""
    videos: np.ndarray
    """(M,) int: number of the video that it comes from."""


def score_rule(scored: Scored, threshold: float) -> dict[str, Any]:
    """Return how well the rule "confidence of at least ``threshold``" keeps good clips.

    Returns:
        ``clips``, ``good`` and ``videos``, what it was measured on; ``kept`` and ``kept_good``; ``precision``, the
        share of kept clips that are good, and ``recall``, the share of good clips that are kept, each as ``share``
        (None if there are no such clips) with its 95 % ``interval``; ``all_kept``, the precision of keeping everything.
    """
    is_kept, is_good = scored.confidences >= threshold, scored.is_good
    return {
        "threshold": threshold,
        "clips": len(is_good),
        "good": int(is_good.sum()),
        "videos": len(np.unique(scored.videos)),
        "kept": int(is_kept.sum()),
        "kept_good": int((is_kept & is_good).sum()),
        "precision": _share(is_good[is_kept], scored.videos[is_kept]),
        "recall": _share(is_kept[is_good], scored.videos[is_good]),
        "all_kept": _share(is_good, scored.videos),
    }


def _share(hits: np.ndarray, videos: np.ndarray) -> dict[str, Any]:
    """Return the share of ``hits`` (M,) bool with a Wilson interval in which clips of a video count as one.

    Clips of a video are alike. In the worst case they are all right or all wrong together; then M clips in videos of
    m_i clips are worth (sum m_i)^2 / sum m_i^2 of independent ones. Unlike a bootstrap, this interval has a width where
    all clips are right.
    """
    if not len(hits):
        return {"share": None, "interval": None, "videos": 0}
    sizes = np.unique(videos, return_counts=True)[1]
    number, share = float(sizes.sum() ** 2 / (sizes**2).sum()), float(hits.mean())
    return {"share": share, "interval": list(wilson_interval(share, number)), "videos": len(sizes)}


def choose_threshold(scored: Scored, precision: float) -> float:
    """Return the threshold that keeps the most good clips among those whose kept clips have at least this precision.

    Of several it is the highest, and lies midway between the last clip that is kept and the first that is not.

    Raises:
        ValueError: If no threshold has this precision; the message names the highest precision that one has.
    """
    order = np.argsort(-scored.confidences, kind="stable")
    confidences, hits = scored.confidences[order], np.cumsum(scored.is_good[order])
    shares = hits / np.arange(1, len(hits) + 1)
    is_border = np.append(np.diff(confidences) < 0, True)  # equal confidences are kept or dropped together
    reached = is_border & (shares >= precision)
    if not reached.any():
        best = shares[is_border].max()
        raise ValueError(f"no threshold has a precision of {precision}, the highest is {best:.3f}: rate more clips")
    last = int(np.argmax(np.where(reached, hits, -1)))
    below = confidences[last + 1] if last + 1 < len(confidences) else 0.0
    return float((confidences[last] + below) / 2)


def split_videos(videos: Sequence[str], is_good: np.ndarray, shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Split clips so that all clips of a video are on one side.

    Args:
        videos: (M,) name of the video of each clip.
        is_good: (M,) bool: whether a clip is good; each side gets its share of the good videos and of the others.
        shares: Share of each side; their sum is 1.
        seed: Seed of the draw.

    Returns:
        For each side the (M_i,) indices of its clips, in order.

    Raises:
        ValueError: If a side has no good clip, or no bad one; the message says how many there are.
    """
    names, number = np.unique(np.asarray(videos), return_inverse=True)
    share_good = np.bincount(number, weights=is_good) / np.bincount(number)
    order = np.random.default_rng(seed).permutation(len(names))
    side_of = np.empty(len(names), dtype=np.int64)
    for group in (order[share_good[order] > 0.5], order[share_good[order] <= 0.5]):
        edges = np.round(np.cumsum(shares) * len(group)).astype(int)
        side_of[group] = np.searchsorted(edges, np.arange(len(group)), side="right")
    sides = [np.flatnonzero(side_of[number] == side) for side in range(len(shares))]
    for side, indices in enumerate(sides):
        good = int(is_good[indices].sum())
        if good in (0, len(indices)):
            raise ValueError(
                f"parts of the split must have good and bad clips, got {good} good and {len(indices) - good} bad in "
                f"part {side + 1} of {len(shares)}: rate more videos ({len(names)} have good or bad ratings)"
            )
    return sides
