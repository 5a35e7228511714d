"""How long a world stays one: a session far beyond the context, and when it stops looking like the game."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genie_gym.metrics.video_features import load_features
from genie_gym.models.world_model import GenieWorldModel

LONG_PLAY_FRAMES, HELD_FRAMES = 100, 8
"""Of a session, and for how many of them each random latent action is held."""
RANGE_SHARE = 0.99
"""Of the moments of real clips that lie in their range."""
_CHUNK = 32
"""Clips at once."""
_PARTS = 4
"""Of a session that are told apart."""
_LEAST_VARIANCE = 1e-4
"""Of a feature, in units of the mean variance, so that those which never vary do not decide."""


class RealRange(NamedTuple):
    """An ellipsoid around the features of real moments."""

    mean: Tensor
    """(D,)."""
    whiten: Tensor
    """(D, D): deviations times it have unit spread."""
    limit: float
    """Greatest length of a whitened deviation."""

    def leaves(self, moments: Tensor) -> Tensor:
        """(..., D) -> (...) bool: whether a moment is unlike real ones. What is no number is."""
        return ~(_lengths(moments, self.mean, self.whiten) <= self.limit)


def fit_range(moments: Tensor) -> RealRange:
    """The ellipsoid that holds ``RANGE_SHARE`` of (M, D) moments, shaped by their covariance.

    Raises:
        ValueError: If there are not more moments than features.
    """
    if moments.ndim != 2 or len(moments) <= moments.shape[1]:
        raise ValueError(
            f"moments of real clips must be more than their features, give more clips: got {moments.shape}"
        )
    rows = moments.double()
    values, vectors = torch.linalg.eigh(rows.T.cov())
    whiten = vectors / values.clamp(min=_LEAST_VARIANCE * float(values.mean())).sqrt()
    mean = rows.mean(dim=0)
    return RealRange(mean, whiten, float(_lengths(rows, mean, whiten).quantile(RANGE_SHARE)))


@torch.no_grad()
def score_long_play(
    world: GenieWorldModel, starts: Tensor, real: Tensor, separate: Tensor, seed: int
) -> dict[str, Any]:
    """Play long sessions under random latent actions, each held a while, and look when they leave the real range.

    Args:
        world: In eval mode.
        starts: (M, 1, C, H, W) real frames to open it on.
        real: (B, T, C, H, W) clips of the levels that starts are of, the baseline.
        separate: (N, T, C, H, W) clips of other levels, which the range is fitted on.
        seed: Of latent actions and draws.

    Returns:
        ``starts``, ``frames``; ``outside``, the share of played frames that the features behind ``fvd_procgen`` find
        unlike real ones; ``outside_by_part``, of each quarter of the session; ``real_outside``, of real clips;
        ``noise_outside``, of as many frames of noise.
    """
    moments = load_features().moments
    real_range = fit_range(torch.cat([moments(part).flatten(0, 1) for part in separate.split(_CHUNK)]))
    actions = draw_held_actions(len(starts), LONG_PLAY_FRAMES, world.config.num_latent_actions, seed)
    played = world.rollout(starts, actions, seed)[:, -LONG_PLAY_FRAMES:].cpu()
    noise = torch.rand(played.shape, generator=torch.Generator().manual_seed(seed))

    def outside(videos: Tensor) -> Tensor:
        return real_range.leaves(moments(videos)).double()

    leaves = outside(played)
    return {
        "starts": len(starts),
        "frames": LONG_PLAY_FRAMES,
        "outside": float(leaves.mean()),
        "outside_by_part": [float(part.mean()) for part in leaves.tensor_split(_PARTS, dim=1)],
        "real_outside": float(torch.cat([outside(part) for part in real.split(_CHUNK)]).mean()),
        "noise_outside": float(outside(noise).mean()),
    }


def draw_held_actions(players: int, frames: int, actions: int, seed: int) -> Tensor:
    """(players, frames) uniform latent actions, each held for ``HELD_FRAMES``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(actions, (players, -(-frames // HELD_FRAMES)), generator=generator)
    return drawn.repeat_interleave(HELD_FRAMES, dim=1)[:, :frames]


def _lengths(moments: Tensor, mean: Tensor, whiten: Tensor) -> Tensor:
    return ((moments.double() - mean) @ whiten).norm(dim=-1)
