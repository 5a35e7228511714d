"""Scores computed from a world's outputs, each next to its baselines."""

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
from genie_gym.real_actions import RealActionConfig

_ROLLOUT_FRAMES, _CONTINUED_FRAMES = (1, 2, 4, 8, 10, 15), (1, 2, 4, 8, 10, 12)
_DELTA_FRAMES = (1, 4, 8)
"""Frames t at which roll-outs from one and from several frames, and delta PSNR, are scored."""


def score_clips(outputs: WorldOutputs, config: WorldConfig, seed: int) -> dict[str, Any]:
    """Score the clips that a world has encoded and rolled out; ``seed`` is the seed of the bootstrap intervals.

    Returns:
        ``clips``, their number; ``tokenizer``; ``lam`` (with ``nmi``, ``direction``, ``up`` and ``effective`` if the
        true actions are known; its ``kind`` is ``real`` if the world learned from them); ``rollout`` (a row for each
        t); ``delta_psnr`` (a row for each t, mean and 95 % interval); ``continued`` (both again for prompts of
        ``prompt_frames``, t counted from the last of them); ``fvd_procgen`` of roll-outs, with ``fvd_procgen_beside``
        of baselines: real clips rebuilt, the prompt frozen, random actions, other real clips, and those to the
        roll-outs; with I3D, ``fvd`` and ``fvd_beside``.
    """
    labels, actions, rollouts = outputs.encoded.labels, outputs.actions, outputs.rollouts
    lam = score_use(labels, config.num_latent_actions)
    if isinstance(config.latent_action_model, RealActionConfig):
        lam["kind"] = "real"
    if actions is not None:
        lam |= score_labels(labels, actions.real_actions, actions.maps, actions.ceiling, actions.groups)
        lam["groups"] = dict(actions.groups.names)
    continued = _score_rollouts(outputs.continued, _CONTINUED_FRAMES, seed)
    return {
        "clips": len(rollouts.real),
        "tokenizer": score_tokenizer(outputs.encoded, rollouts.real, config.tokenizer.quantizer.codes),
        "lam": lam,
        **_score_rollouts(rollouts, _ROLLOUT_FRAMES, seed),
        "continued": {"prompt_frames": LONG_PROMPT_FRAMES, **continued},
        **score_distances(outputs.features),
    }


def score_tokenizer(encoded: EncodedClips, videos: Tensor, codes: int) -> dict[str, float]:
    """Return PSNR in dB (pooled, mean over frames, of moving pixels) and SSIM next to k-means, and the use of codes."""
    return {
        "psnr": pooled_psnr(encoded.rebuilt, videos),
        "frame_psnr": float(psnr(encoded.rebuilt, videos).mean()),
        "moving_psnr": moving_psnr(videos, encoded.rebuilt),
        "ssim": float(ssim(encoded.rebuilt, videos).mean()),
        "kmeans_psnr": pooled_psnr(encoded.clustered, videos),
        "kmeans_moving_psnr": moving_psnr(videos, encoded.clustered),
        "kmeans_ssim": float(ssim(encoded.clustered, videos).mean()),
        "codes_used": encoded.tokens.unique().numel(),
        "codes": codes,
        "perplexity": float(perplexity(encoded.tokens, codes)),
    }


def score_frame(rollouts: Rollouts, frame: int) -> dict[str, float]:
    """Return the pooled PSNR in dB and the SSIM of one frame of roll-outs, and of the baselines."""
    real = rollouts.real[:, frame]
    candidates = {
        "": rollouts.inferred[:, frame],
        "copy_last_": rollouts.real[:, 0],
        "shuffled_": rollouts.shuffled[:, frame],
        "random_": rollouts.random[:, frame],
    }
    row: dict[str, float] = {"t": frame}
    row |= {f"{name}psnr": pooled_psnr(videos, real) for name, videos in candidates.items()}
    row |= {f"{name}ssim": float(ssim(videos, real).mean()) for name, videos in candidates.items()}
    return row | {f"{name}clip_psnr": float(psnr(candidates[name], real).mean()) for name in ("", "copy_last_")}


def score_control(rollouts: Rollouts, frame: int, seed: int) -> dict[str, Any]:
    """Return the mean delta PSNR of one frame with its 95 % bootstrap interval over clips."""
    values = delta_psnr(rollouts, frame)
    return {"t": frame, "delta_psnr": float(values.mean()), "interval": bootstrap_interval(values, seed)}


def _score_rollouts(rollouts: Rollouts, frames: Iterable[int], seed: int) -> dict[str, Any]:
    return {
        "rollout": [score_frame(rollouts, frame) for frame in frames],
        "delta_psnr": [score_control(rollouts, frame, seed) for frame in _DELTA_FRAMES],
    }


def score_distances(features: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    """Return each distance of roll-outs and, in ``NAME_beside``, of baselines, from features by name and kind."""
    scores: dict[str, Any] = {}
    for name, by_kind in features.items():
        real = by_kind["real"]
        distances = {kind: frechet_distance(real, each) for kind, each in by_kind.items() if kind != "real"}
        scores[name] = distances.pop("rollout")
        if "other_real" in by_kind:  # as far from each other as unpaired clips are
            distances["rollout_to_others"] = frechet_distance(by_kind["other_real"], by_kind["rollout"])
        scores[f"{name}_beside"] = distances
    return scores
