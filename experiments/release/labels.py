"""Scores by which a release chooses its latent action model: how well labels predict true actions of clips."""

import numpy as np
from torch import Tensor, cat

from genie_gym.data.clips import ClipDataset
from genie_gym.metrics.action_groups import PROCGEN_GROUPS
from genie_gym.metrics.held_out import EvaluationClips, read_clips
from genie_gym.metrics.latent_actions import fit_maps, score_labels, score_use
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.world_model import GenieWorldModel

SCORED_CLIPS = 512
"""Number of clips of each mode: the first half fits the maps from latent to real actions, the second is scored."""
_CHUNK = 32  # clips labelled at once


def draw_clips(dataset: ClipDataset, mode: str) -> EvaluationClips:
    """Draw ``SCORED_CLIPS`` clips of one mode, with their real actions, the same ones in every call."""
    drawn = np.random.default_rng(0).permutation(len(dataset))[: 8 * SCORED_CLIPS]
    chosen = [int(each) for each in drawn if dataset.attribute(int(each), "mode") == mode]
    return read_clips(dataset, np.array(chosen[:SCORED_CLIPS]))


def label_in_chunks(model: GenieWorldModel | LatentActionModel, play: EvaluationClips, device: str = "cpu") -> Tensor:
    """Return the clips' latent actions (B, T - 1) int64, on the CPU; ``model`` is on ``device``."""
    return cat([model.label(part.to(device)).cpu() for part in play.videos.split(_CHUNK)])


def score_halves(labels: Tensor, play: EvaluationClips, actions: int) -> dict[str, float]:
    """Return balanced accuracies of the second half's true actions, by maps fitted on the first half.

    ``labels`` (B, T - 1) int64 are those of the clips ``play``; ``actions`` is the number of latent actions.
    """
    half, real = len(labels) // 2, play.real_actions
    assert real is not None
    scores = score_labels(labels[half:], real[half:], fit_maps(labels[:half], real[:half], actions))
    accuracies = {name: round(scores[name]["accuracy"], 3) for name in PROCGEN_GROUPS.kinds}
    return {**accuracies, "perplexity": round(score_use(labels, actions)["perplexity"], 2)}
