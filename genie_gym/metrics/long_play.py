"""Long play: the share of frames that stop looking like the game in roll-outs far beyond the context."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genie_gym.metrics.video_features import load_features
from genie_gym.models.world_model import GenieWorldModel

LONG_PLAY_FRAMES, HELD_FRAMES = 100, 8
"""Number of frames in a long roll-out, and of those for which each random latent action is held."""
RANGE_SHARE = 0.99
"""Share of the feature vectors of real clips inside the fitted range."""
_CHUNK = 32
"""Clips processed at once."""
_PARTS = 4
"""Number of equal parts of a roll-out that are reported separately."""
_LEAST_VARIANCE = 1e-4
"""Smallest variance of a direction relative to the mean variance; keeps nearly constant features from dominating."""


class RealRange(NamedTuple):
    """An ellipsoid around the features of real frames."""

    mean: Tensor
    """(D,) centre."""
    whiten: Tensor
    """(D, D) matrix that turns deviations into whitened ones of unit variance."""
    limit: float
    """Largest length of a whitened deviation inside the range."""

    def is_outside(self, features: Tensor) -> Tensor:
        """Return (...) bool for (..., D) features: True outside the range, and for features that are not finite."""
        return ~(_lengths(features, self.mean, self.whiten) <= self.limit)


def fit_range(features: Tensor) -> RealRange:
    """Return the ellipsoid with the covariance of (M, D) features that holds ``RANGE_SHARE`` of them.

    Raises:
        ValueError: If M is not greater than D.
    """
    if features.ndim != 2 or len(features) <= features.shape[1]:
        raise ValueError(f"features must have more rows than columns, got {tuple(features.shape)}; give more clips")
    rows = features.double()
    values, vectors = torch.linalg.eigh(rows.T.cov())
    whiten = vectors / values.clamp(min=_LEAST_VARIANCE * float(values.mean())).sqrt()
    mean = rows.mean(dim=0)
    return RealRange(mean, whiten, float(_lengths(rows, mean, whiten).quantile(RANGE_SHARE)))


@torch.no_grad()
def score_long_play(
    world: GenieWorldModel, starts: Tensor, real: Tensor, separate: Tensor, seed: int
) -> dict[str, Any]:
    """Roll a world out for long under random latent actions and measure which frames look unlike real ones.

    Args:
        world: World model in eval mode.
        starts: (M, 1, C, H, W) real start frames.
        real: (B, T, C, H, W) clips of the start frames' levels, the baseline.
        separate: (N, T, C, H, W) clips of other levels, on which the range is fitted.
        seed: Seed of latent actions and sampling.

    Returns:
        ``starts``, ``frames``; ``outside``, the share of generated frames whose ``fvd_procgen`` features lie outside
        the range of real ones; ``outside_by_part``, the same for each quarter; ``real_outside`` for real clips and
        ``noise_outside`` for noise.
    """
    extract = load_features().frame_features
    real_range = fit_range(torch.cat([extract(part).flatten(0, 1) for part in separate.split(_CHUNK)]))
    actions = draw_held_actions(len(starts), LONG_PLAY_FRAMES, world.config.num_latent_actions, seed)
    played = world.rollout(starts, actions, seed)[:, -LONG_PLAY_FRAMES:].cpu()
    noise = torch.rand(played.shape, generator=torch.Generator().manual_seed(seed))

    def outside(videos: Tensor) -> Tensor:
        return real_range.is_outside(extract(videos)).double()

    is_outside = outside(played)
    return {
        "starts": len(starts),
        "frames": LONG_PLAY_FRAMES,
        "outside": float(is_outside.mean()),
        "outside_by_part": [float(part.mean()) for part in is_outside.tensor_split(_PARTS, dim=1)],
        "real_outside": float(torch.cat([outside(part) for part in real.split(_CHUNK)]).mean()),
        "noise_outside": float(outside(noise).mean()),
    }


def draw_held_actions(rows: int, frames: int, num_latent_actions: int, seed: int) -> Tensor:
    """Return (rows, frames) uniform random latent actions, each held for ``HELD_FRAMES``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_latent_actions, (rows, -(-frames // HELD_FRAMES)), generator=generator)
    return drawn.repeat_interleave(HELD_FRAMES, dim=1)[:, :frames]


def _lengths(features: Tensor, mean: Tensor, whiten: Tensor) -> Tensor:
    """Return the (...) lengths of the whitened deviations of (..., D) features from the mean."""
    return ((features.double() - mean) @ whiten).norm(dim=-1)
