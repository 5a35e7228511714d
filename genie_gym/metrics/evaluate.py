"""All metrics of a world on real clips, with their baselines, as one JSON-able dictionary."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.controllability import Played, bootstrap_interval, delta_psnr, play_clips
from genie_gym.metrics.image import pooled_psnr, psnr
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import perplexity

ROLLOUT_FRAMES = (1, 2, 4, 8, 10, 15)
DELTA_FRAMES = (1, 4, 8)
USED_SHARE = 0.02
"""A latent action counts as used from this share of the transitions on."""


def evaluate(
    world: GenieWorldModel,
    sets: Mapping[str, Tensor],
    fitted: Tensor,
    seed: int = 0,
    report: Callable[[str], object] = lambda stage: None,
) -> dict[str, Any]:
    """Score a world on named sets of clips, over all of them and apart.

    Args:
        world: In eval mode.
        sets: (B, 16, C, H, W) real clips by name.
        fitted: Clips from *training* levels, for the k-means baseline.
        seed: Of roll-outs, random actions, intervals and k-means.
        report: Hears of each stage as it begins.

    Returns:
        ``clips``, ``tokenizer``, ``lam``, ``rollout`` (rows of ``t`` and PSNRs, pooled over clips) and
        ``delta_psnr`` (rows of ``t``, mean and 95 % interval); the same again under ``sets`` for each name.
    """
    videos = torch.cat(list(sets.values()))
    config = world.config.tokenizer
    report("k-means over patches")
    means = fit_patches(fitted, config.patch_size, config.quantizer.codes, seed)
    report("tokens and latent actions")
    seen = _see(world, videos, means)
    report("roll-outs under inferred, shuffled and random latent actions")
    played = play_clips(world, videos, seed)

    def score(rows: slice) -> dict[str, Any]:
        part = Played(*(each[rows] for each in played))
        return {
            "clips": len(part.real),
            "tokenizer": score_tokenizer(Seen(*(each[rows] for each in seen)), part.real, config.quantizer.codes),
            "lam": score_latent_actions(seen.labels[rows], world.config.num_latent_actions),
            "rollout": [score_frame(part, frame) for frame in ROLLOUT_FRAMES],
            "delta_psnr": [score_control(part, frame, seed) for frame in DELTA_FRAMES],
        }

    apart, first = {}, 0
    for name, clips in sets.items():
        apart[name] = score(slice(first, first + len(clips)))
        first += len(clips)
    return {"seed": seed, **score(slice(None)), "sets": apart}


class Seen(NamedTuple):
    """What the models make of real clips."""

    tokens: Tensor
    """(B, T, N)."""
    rebuilt: Tensor
    """(B, T, C, H, W) from the tokens."""
    labels: Tensor
    """(B, T - 1) latent actions."""
    clustered: Tensor
    """(B, T, C, H, W) by k-means over patches."""


@torch.no_grad()
def _see(world: GenieWorldModel, videos: Tensor, means: Tensor, chunk: int = 32) -> Seen:
    parts = []
    for clips in videos.split(chunk):
        moved = clips.to(world.device)
        tokens = world.tokenizer.encode(moved)
        seen = (tokens, world.tokenizer.decode(tokens), world.label(moved))
        clustered = cluster_patches(clips, means, world.config.tokenizer.patch_size)
        parts.append((*(part.cpu() for part in seen), clustered))
    return Seen(*(torch.cat(column) for column in zip(*parts, strict=True)))


def score_tokenizer(seen: Seen, videos: Tensor, codes: int) -> dict[str, float]:
    """PSNR in dB (pooled, and the mean over frames) beside k-means', codes in use and their perplexity."""
    return {
        "psnr": pooled_psnr(seen.rebuilt, videos),
        "frame_psnr": float(psnr(seen.rebuilt, videos).mean()),
        "kmeans_psnr": pooled_psnr(seen.clustered, videos),
        "codes_used": seen.tokens.unique().numel(),
        "codes": codes,
        "perplexity": float(perplexity(seen.tokens, codes)),
    }


def score_latent_actions(labels: Tensor, latent_actions: int) -> dict[str, Any]:
    """How the latent actions (B, T - 1) are used."""
    shares = torch.bincount(labels.flatten(), minlength=latent_actions) / labels.numel()
    return {
        "shares": [round(float(share), 4) for share in shares],
        "used": int((shares >= USED_SHARE).sum()),
        "perplexity": float(perplexity(labels, latent_actions)),
    }


def score_frame(played: Played, frame: int) -> dict[str, float]:
    """PSNR in dB at ``frame``, pooled over clips, of the world and of what it must beat."""
    real = played.real[:, frame]
    return {
        "t": frame,
        "psnr": pooled_psnr(played.inferred[:, frame], real),
        "copy_last_psnr": pooled_psnr(played.real[:, 0], real),
        "shuffled_psnr": pooled_psnr(played.shuffled[:, frame], real),
        "random_psnr": pooled_psnr(played.random[:, frame], real),
        "clip_psnr": float(psnr(played.inferred[:, frame], real).mean()),
        "copy_last_clip_psnr": float(psnr(played.real[:, 0], real).mean()),
    }


def score_control(played: Played, frame: int, seed: int) -> dict[str, Any]:
    """Delta PSNR at ``frame`` with its 95 % bootstrap interval over clips."""
    values = delta_psnr(played, frame)
    return {"t": frame, "delta_psnr": float(values.mean()), "interval": bootstrap_interval(values, seed)}
