"""Quality and speed of roll-outs by the number of MaskGIT steps per frame."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from genie_gym.metrics.controllability import Rollouts, bootstrap_interval, delta_psnr, play_clips
from genie_gym.metrics.fvd import frechet_distance, procgen_features
from genie_gym.metrics.held_out import CLIP_LENGTH
from genie_gym.metrics.image import pooled_psnr, psnr
from genie_gym.models.world_model import GenieWorldModel

_ROLLOUT_FRAMES, _DELTA_FRAMES = (1, 4, 8, 15), (1, 4, 8)
"""Frames t at which PSNR and delta PSNR are compared, if the clips have so many."""


def compare_maskgit_steps(
    world: GenieWorldModel,
    videos: Tensor,
    maskgit_steps: Sequence[int],
    seed: int,
    report: Callable[[float], object] = lambda share: None,
    labels: Tensor | None = None,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Roll the same clips out with each number of MaskGIT steps, with the same seeds.

    Args:
        world: World model in eval mode.
        videos: (B, T, C, H, W) real clips.
        maskgit_steps: Step counts to compare; the last one is the reference.
        seed: Seed of roll-outs and intervals.
        report: Called with the share done, 0 to 1.
        labels: (B, T - 1) actions of the clips, as of ``play_clips``.

    Returns:
        A row for each step count, and its speed in frames/s, which varies from run to run. A row has
        ``maskgit_steps``; ``rollout`` and ``delta_psnr`` for each t, with the mean loss against the reference
        (``less_than_most``) and its 95 % interval over clips; and ``fvd_procgen`` if clips have 16 frames.
    """
    rollouts, speed = {}, {}
    for steps in maskgit_steps:
        began = time.perf_counter()
        kinds = ("inferred", "random")
        rollouts[steps] = play_clips(world, videos, seed, maskgit_steps=steps, kinds=kinds, labels=labels)
        frames = 2 * len(videos) * (videos.shape[1] - 1)
        speed[str(steps)] = frames / (time.perf_counter() - began)
        # A roll-out takes time in proportion to its number of steps.
        report(sum(list(maskgit_steps)[: len(rollouts)]) / sum(maskgit_steps))
    reference = rollouts[maskgit_steps[-1]]
    rows = [{"maskgit_steps": steps, **_score(each, reference, seed)} for steps, each in rollouts.items()]
    if videos.shape[1] >= CLIP_LENGTH:
        real = procgen_features(videos)
        for row, each in zip(rows, rollouts.values(), strict=True):
            row["fvd_procgen"] = frechet_distance(real, procgen_features(each.inferred))
    return rows, speed


def _score(rollouts: Rollouts, reference: Rollouts, seed: int) -> dict[str, Any]:
    def clip_psnr(each: Rollouts, frame: int) -> Tensor:
        return psnr(each.real[:, frame], each.inferred[:, frame])

    def compare(score: Callable[[Rollouts, int], Tensor], frame: int) -> dict[str, Any]:
        lost = score(reference, frame) - score(rollouts, frame)
        return {"less_than_most": float(lost.mean()), "interval": bootstrap_interval(lost, seed)}

    rows: dict[str, Any] = {"rollout": [], "delta_psnr": []}
    for t in (frame for frame in _ROLLOUT_FRAMES if frame < rollouts.real.shape[1]):
        pooled, mean = pooled_psnr(rollouts.inferred[:, t], rollouts.real[:, t]), float(clip_psnr(rollouts, t).mean())
        rows["rollout"].append({"t": t, "psnr": pooled, "clip_psnr": mean, **compare(clip_psnr, t)})
    for t in (frame for frame in _DELTA_FRAMES if frame < rollouts.real.shape[1]):
        values = delta_psnr(rollouts, t)
        own = {"delta_psnr": float(values.mean()), "own_interval": bootstrap_interval(values, seed)}
        rows["delta_psnr"].append({"t": t, **own, **compare(delta_psnr, t)})
    return rows
