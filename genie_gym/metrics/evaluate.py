"""All metrics of a world on real clips, with their baselines, as one JSON-able dictionary."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.control import ControlStarts, score_held_actions
from genie_gym.metrics.held_out import ClipPool, EvaluationClips, join_clips
from genie_gym.metrics.maskgit_steps import compare_maskgit_steps
from genie_gym.metrics.outputs import Report, WorldOutputs, collect_outputs
from genie_gym.metrics.score import score_clips
from genie_gym.metrics.separability import score_persistence
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.real_actions import RealActionConfig

_COMPARED_FRAMES = 9
"""Length of the clips on which MaskGIT step counts are compared."""


class Evaluation(NamedTuple):
    """The scores of a world, and the videos from which a picture is drawn."""

    scores: dict[str, Any]
    outputs: WorldOutputs
    held: Tensor
    """(A, M, T, C, H, W): each latent action held from some starts."""


def evaluate(
    world: GenieWorldModel,
    sets: Mapping[str, EvaluationClips],
    fitted: ClipPool,
    starts: ControlStarts,
    config: EvaluateConfig,
    report: Report = lambda stage, share: None,
) -> Evaluation:
    """Score a world on named sets of clips, all together and each alone.

    Args:
        world: World model in eval mode.
        sets: (B, 16, C, H, W) real clips by name, ``MODE`` or ``MODE/PLAYER``.
        fitted: Clips of *other* levels, as in ``collect_outputs``.
        starts: Starts from which each latent action is held.
        config: Sizes of all measurements, and the seed.
        report: Called with each stage and the share of it done.

    Returns:
        ``scores``: the scores of ``score_clips`` over all clips; the same for each set under ``sets``, and for each
        mode under ``by_mode`` if there are several; ``control`` of ``score_held_actions`` and
        ``passes`` (MaskGIT step counts) over all clips. If true actions are known, ``control`` has ``persistence``, and
        ``ceiling`` tells how the supervised model was trained. ``speed`` varies from run to run, all else is determined
        by the seed.

    Raises:
        ValueError: If there are too few clips to fit on, no such I3D, or a world of real actions has none to play.
    """
    whole, seed = join_clips(sets), config.seed
    videos, outputs = whole.videos, collect_outputs(world, whole, fitted, config, report)

    def score(indices: Tensor) -> dict[str, Any]:
        return score_clips(outputs.take(indices), world.config, seed)

    parts = torch.arange(len(videos)).split([len(clips.videos) for clips in sets.values()])
    by_set = dict(zip(sets, parts, strict=True))
    by_mode = _join_modes(by_set)
    control, held = score_held_actions(world, starts, seed, report)
    compared = _take_evenly(videos[:, :_COMPARED_FRAMES], config.passes_clips)
    progress = partial(report, "comparison of MaskGIT step counts")
    labels = None
    if isinstance(world.config.latent_action_model, RealActionConfig):
        labels = _take_evenly(outputs.encoded.labels[:, : _COMPARED_FRAMES - 1], config.passes_clips)
    rows, speed = compare_maskgit_steps(world, compared, config.maskgit_steps, seed, progress, labels)
    scores = {
        "seed": seed,
        **score_clips(outputs, world.config, seed),
        "control": control | _score_persistence(outputs, by_mode),
        "passes": rows,
        "passes_clips": config.passes_clips,
        "by_mode": {mode: score(indices) for mode, indices in by_mode.items()} if len(by_mode) > 1 else {},
        "sets": {name: score(indices) for name, indices in by_set.items()},
        "speed": speed,
    }
    if outputs.actions is not None:
        scores["ceiling"] = outputs.actions.supervised.describe()
    return Evaluation(scores, outputs, held)


def _score_persistence(outputs: WorldOutputs, by_mode: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return ``persistence``, by mode, if the true actions are known."""
    actions, labels = outputs.actions, outputs.encoded.labels
    if actions is None:
        return {}
    return {
        "persistence": {
            mode: score_persistence(labels[indices], actions.real_actions[indices], actions.groups)
            for mode, indices in by_mode.items()
        }
    }


def _join_modes(by_set: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the indices of clips by mode, given those by mode and player."""
    modes: dict[str, list[Tensor]] = {}
    for name, indices in by_set.items():
        modes.setdefault(name.partition("/")[0], []).append(indices)
    return {mode: torch.cat(indices) for mode, indices in modes.items()}


def _take_evenly(rows: Tensor, wanted: int) -> Tensor:
    """Return up to ``wanted`` evenly spaced rows."""
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), wanted)).round().long()]
