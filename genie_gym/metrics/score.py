"""Scores of what was observed of a world, each beside its baseline."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.metrics.controllability import Rollouts, bootstrap_interval, delta_psnr
from genie_gym.metrics.fvd import frechet_distance
from genie_gym.metrics.image import moving_psnr, pooled_psnr, psnr, ssim
from genie_gym.metrics.latent_actions import score_labels, score_use
from genie_gym.metrics.outputs import LONG_PROMPT_FRAMES, EncodedClips, WorldOutputs
from genie_gym.nn.quantizer import perplexity

_ROLLOUT_FRAMES, _CONTINUED_FRAMES = (1, 2, 4, 8, 10, 15), (1, 2, 4, 8, 10, 12)
_DELTA_FRAMES = (1, 4, 8)


def score_clips(observed: WorldOutputs, config: WorldConfig, seed: int) -> dict[str, Any]:
    """Score some clips.

    Args:
        observed: Of them.
        config: The world's.
        seed: Of intervals.

    Returns:
        ``clips``, ``tokenizer``, ``lam`` (with ``nmi``, ``direction``, ``up`` and ``effective`` where the true actions
        are known), ``rollout`` (rows of ``t``), ``delta_psnr`` (rows of ``t``, mean and 95 % interval), ``continued``
        (``prompt_frames``, and those two again from so many, t counted from the last of them),
        ``fvd_procgen`` of roll-outs with ``fvd_procgen_beside`` of what is compared, ``fvd`` likewise with I3D.
    """
    labels, answers = observed.seen.labels, observed.answers
    lam = score_use(labels, config.num_latent_actions)
    if answers is not None:
        lam |= score_labels(labels, answers.real_actions, answers.maps, answers.ceiling)
    played = observed.played
    return {
        "clips": len(played.real),
        "tokenizer": score_tokenizer(observed.seen, played.real, config.tokenizer.quantizer.codes),
        "lam": lam,
        **_score_played(played, _ROLLOUT_FRAMES, seed),
        "continued": {
            "prompt_frames": LONG_PROMPT_FRAMES,
            **_score_played(observed.continued, _CONTINUED_FRAMES, seed),
        },
        **_score_distances(observed.features),
    }


def score_tokenizer(seen: EncodedClips, videos: Tensor, codes: int) -> dict[str, float]:
    """PSNR in dB (pooled, of moving pixels, mean over frames) and SSIM beside k-means', and the codes in use."""
    return {
        "psnr": pooled_psnr(seen.rebuilt, videos),
        "frame_psnr": float(psnr(seen.rebuilt, videos).mean()),
        "moving_psnr": moving_psnr(videos, seen.rebuilt),
        "ssim": float(ssim(seen.rebuilt, videos).mean()),
        "kmeans_psnr": pooled_psnr(seen.clustered, videos),
        "kmeans_moving_psnr": moving_psnr(videos, seen.clustered),
        "kmeans_ssim": float(ssim(seen.clustered, videos).mean()),
        "codes_used": seen.tokens.unique().numel(),
        "codes": codes,
        "perplexity": float(perplexity(seen.tokens, codes)),
    }


def score_frame(played: Rollouts, frame: int) -> dict[str, float]:
    """PSNR in dB, pooled over clips, and SSIM at ``frame``, of the world and of what it must beat."""
    real = played.real[:, frame]
    rivals = {
        "": played.inferred[:, frame],
        "copy_last_": played.real[:, 0],
        "shuffled_": played.shuffled[:, frame],
        "random_": played.random[:, frame],
    }
    row: dict[str, float] = {"t": frame}
    row |= {f"{name}psnr": pooled_psnr(videos, real) for name, videos in rivals.items()}
    row |= {f"{name}ssim": float(ssim(videos, real).mean()) for name, videos in rivals.items()}
    means = {f"{name}clip_psnr": float(psnr(rivals[name], real).mean()) for name in ("", "copy_last_")}
    return row | means


def score_control(played: Rollouts, frame: int, seed: int) -> dict[str, Any]:
    """Delta PSNR at ``frame`` with its 95 % bootstrap interval over clips."""
    values = delta_psnr(played, frame)
    return {"t": frame, "delta_psnr": float(values.mean()), "interval": bootstrap_interval(values, seed)}


def _score_played(played: Rollouts, frames: Iterable[int], seed: int) -> dict[str, Any]:
    return {
        "rollout": [score_frame(played, frame) for frame in frames],
        "delta_psnr": [score_control(played, frame, seed) for frame in _DELTA_FRAMES],
    }


def _score_distances(features: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name, by_kind in features.items():
        real = by_kind["real"]
        distances = {kind: frechet_distance(real, each) for kind, each in by_kind.items() if kind != "real"}
        scores[name] = distances.pop("rollout")
        scores[f"{name}_beside"] = distances
    return scores
