"""All metrics of a world on real clips, with their baselines, as one JSON-able dictionary."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.held_out import ClipPool, EvaluationClips, join_clips
from genie_gym.metrics.long_play import score_long_play
from genie_gym.metrics.maskgit_steps import compare_maskgit_steps
from genie_gym.metrics.motion import play_each_action, score_consistency
from genie_gym.metrics.outputs import Report, WorldOutputs, collect_outputs
from genie_gym.metrics.score import score_clips
from genie_gym.models.world_model import GenieWorldModel

MOTION_FRAMES = 4
"""For which a latent action is held when its motion is measured."""
PASSES_FRAMES = 9
"""Of the clips on which numbers of passes are compared."""
SESSIONS, RANGE_CLIPS = 8, 256
"""Long sessions, and separate clips that the range of real features is fitted on."""


class Evaluation(NamedTuple):
    """Scores, and what a picture is drawn from."""

    scores: dict[str, Any]
    observed: WorldOutputs
    held: Tensor
    """(A, M, 1 + frames, C, H, W) each latent action held from M starts."""


def evaluate(
    world: GenieWorldModel,
    sets: Mapping[str, EvaluationClips],
    fitted: ClipPool,
    config: EvaluateConfig,
    report: Report = lambda stage, share: None,
) -> Evaluation:
    """Score a world on named sets of clips, over all of them and apart.

    Args:
        world: In eval mode.
        sets: (B, 16, C, H, W) real clips by name.
        fitted: Clips of *other* levels, for k-means, the maps from latent to real actions, and their ceiling.
        config: How much of everything, and the seed.
        report: Hears of progress.

    Returns:
        ``scores``: what ``score_clips`` returns, over all clips; the same again under ``sets`` for each name, and
        under ``by_mode`` for what stands before the names' ``/``, where that differs; ``consistency``, ``session`` and
        ``passes`` over all. ``speed`` varies from run to run, the rest follows from the seed.

    Raises:
        ValueError: If there are too few clips to fit on, or no such I3D.
    """
    whole = join_clips(sets)
    observed = collect_outputs(world, whole, fitted, config, report)

    def score(rows: Tensor) -> dict[str, Any]:
        return score_clips(observed.take(rows), world.config, config.seed)

    numbers = torch.arange(len(whole.videos)).split([len(play.videos) for play in sets.values()])
    apart = dict(zip(sets, numbers, strict=True))
    held = _hold_actions(world, whole.videos, config, report)
    rows, speed = _compare_passes(world, whole.videos, config, report)
    totals = {
        "consistency": score_consistency(held),
        "session": _play_sessions(world, whole.videos, fitted, config, report),
        "passes": rows,
        "passes_clips": config.passes_clips,
    }
    parts = {
        "by_mode": {mode: score(rows) for mode, rows in _join_modes(apart).items()},
        "sets": {name: score(rows) for name, rows in apart.items()},
    }
    scores = {"seed": config.seed, **score_clips(observed, world.config, config.seed), **totals, **parts}
    return Evaluation({**scores, "speed": speed}, observed, held)


def _join_modes(apart: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Clips by mode, from clips by mode and player; none where there is but one mode."""
    modes: dict[str, list[Tensor]] = {}
    for name, rows in apart.items():
        modes.setdefault(name.partition("/")[0], []).append(rows)
    return {mode: torch.cat(rows) for mode, rows in modes.items()} if len(modes) > 1 else {}


def _hold_actions(world: GenieWorldModel, videos: Tensor, config: EvaluateConfig, report: Report) -> Tensor:
    report("each latent action held from many starts", 0)
    starts = _spread(len(videos), config.start_frames)
    return play_each_action(world, videos[starts, :1], MOTION_FRAMES, config.seed)


def _play_sessions(
    world: GenieWorldModel, videos: Tensor, fitted: ClipPool, config: EvaluateConfig, report: Report
) -> dict[str, Any]:
    report("long sessions", 0)
    starts = videos[_spread(len(videos), SESSIONS), :1]
    separate = fitted.draw(min(RANGE_CLIPS, len(fitted.numbers)), config.seed).videos
    return score_long_play(world, starts, videos, separate, config.seed)


def _compare_passes(
    world: GenieWorldModel, videos: Tensor, config: EvaluateConfig, report: Report
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    some = videos[_spread(len(videos), config.passes_clips), :PASSES_FRAMES]
    return compare_maskgit_steps(
        world, some, config.maskgit_steps, config.seed, lambda share: report("numbers of MaskGIT passes", share)
    )


def _spread(of: int, wanted: int) -> Tensor:
    """Up to ``wanted`` row numbers below ``of``, evenly apart."""
    return torch.linspace(0, of - 1, min(of, wanted)).round().long()
