"""All metrics of a world on real clips, with their baselines, as one JSON-able dictionary."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genie_gym.metrics.baselines import kmeans_psnr
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
    videos: Tensor,
    fitted: Tensor,
    seed: int = 0,
    report: Callable[[str], object] = lambda stage: None,
) -> dict[str, Any]:
    """Score a world.

    Args:
        world: In eval mode.
        videos: (B, 16, C, H, W) real clips.
        fitted: Clips from *training* levels, for the k-means baseline.
        seed: Of roll-outs, random actions, intervals and k-means.
        report: Hears of each stage as it begins.

    Returns:
        ``clips``, ``tokenizer``, ``lam``, ``rollout`` (rows of ``t`` and PSNRs, pooled over clips),
        ``delta_psnr`` by ``t``.
    """
    report("tokenizer")
    scores: dict[str, Any] = {"clips": len(videos), "seed": seed, "tokenizer": score_tokenizer(world, videos)}
    config = world.config.tokenizer
    scores["tokenizer"]["kmeans_psnr"] = kmeans_psnr(fitted, videos, config.patch_size, config.quantizer.codes, seed)
    report("latent actions")
    scores["lam"] = score_latent_actions(world, videos)
    report("roll-outs")
    played = play_clips(world, videos, seed)
    scores["rollout"] = [score_frame(played, frame) for frame in ROLLOUT_FRAMES]
    scores["delta_psnr"] = [score_control(played, frame, seed) for frame in DELTA_FRAMES]
    return scores


@torch.no_grad()
def score_tokenizer(world: GenieWorldModel, videos: Tensor, chunk: int = 32) -> dict[str, float]:
    """PSNR in dB (pooled, and the mean over frames), codes in use and their perplexity."""
    tokens = torch.cat([world.tokenizer.encode(part) for part in videos.split(chunk)])
    rebuilt = torch.cat([world.tokenizer.decode(part) for part in tokens.split(chunk)])
    return {
        "psnr": pooled_psnr(rebuilt, videos),
        "frame_psnr": float(psnr(rebuilt, videos).mean()),
        "codes_used": tokens.unique().numel(),
        "codes": world.config.tokenizer.quantizer.codes,
        "perplexity": float(perplexity(tokens, world.config.tokenizer.quantizer.codes)),
    }


@torch.no_grad()
def score_latent_actions(world: GenieWorldModel, videos: Tensor, chunk: int = 32) -> dict[str, Any]:
    """How the latent actions are used."""
    labels = torch.cat([world.label(part) for part in videos.split(chunk)])
    shares = torch.bincount(labels.flatten(), minlength=world.config.num_latent_actions) / labels.numel()
    return {
        "shares": [round(float(share), 4) for share in shares],
        "used": int((shares >= USED_SHARE).sum()),
        "perplexity": float(perplexity(labels, world.config.num_latent_actions)),
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
