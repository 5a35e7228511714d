"""Quality and speed by MaskGIT passes a frame, each number beside the most."""

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


def compare_maskgit_steps(
    world: GenieWorldModel,
    videos: Tensor,
    maskgit_steps: Sequence[int],
    seed: int,
    report: Callable[[float], object] = lambda share: None,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Roll the same clips out with every number of passes, with the same seeds.

    Args:
        world: In eval mode.
        videos: (B, T, C, H, W) real clips.
        maskgit_steps: Passes; the last is what the others are compared with.
        seed: Of roll-outs and intervals.
        report: Hears how much is done, 0 to 1.

    Returns:
        Rows of ``maskgit_steps``, ``rollout`` and ``delta_psnr`` by t, each with the 95 % interval of what is lost
        against the most, clip by clip, and ``fvd_procgen`` where clips have 16 frames; and frames/s by passes, which
        vary from run to run.
    """
    played, speed = {}, {}
    for passes in maskgit_steps:
        began = time.perf_counter()
        played[passes] = play_clips(world, videos, seed, maskgit_steps=passes, kinds=("inferred", "random"))
        frames = 2 * len(videos) * (videos.shape[1] - 1)
        speed[str(passes)] = frames / (time.perf_counter() - began)
        report(sum(list(maskgit_steps)[: len(played)]) / sum(maskgit_steps))
    most = played[maskgit_steps[-1]]
    rows = [{"maskgit_steps": passes, **_score(each, most, seed)} for passes, each in played.items()]
    if videos.shape[1] >= CLIP_LENGTH:
        real = procgen_features(videos)
        for row, each in zip(rows, played.values(), strict=True):
            row["fvd_procgen"] = frechet_distance(real, procgen_features(each.inferred))
    return rows, speed


def _score(played: Rollouts, most: Rollouts, seed: int) -> dict[str, Any]:
    def clip_psnr(each: Rollouts, frame: int) -> Tensor:
        return psnr(each.real[:, frame], each.inferred[:, frame])

    def compare(own: Tensor, other: Tensor) -> dict[str, Any]:
        return {"less_than_most": float((other - own).mean()), "interval": bootstrap_interval(other - own, seed)}

    rollout = [
        {
            "t": t,
            "psnr": pooled_psnr(played.inferred[:, t], played.real[:, t]),
            "clip_psnr": float(clip_psnr(played, t).mean()),
            **compare(clip_psnr(played, t), clip_psnr(most, t)),
        }
        for t in _ROLLOUT_FRAMES
        if t < played.real.shape[1]
    ]
    control = [
        {
            "t": t,
            "delta_psnr": float(delta_psnr(played, t).mean()),
            "own_interval": bootstrap_interval(delta_psnr(played, t), seed),
            **compare(delta_psnr(played, t), delta_psnr(most, t)),
        }
        for t in _DELTA_FRAMES
        if t < played.real.shape[1]
    ]
    return {"rollout": rollout, "delta_psnr": control}
