"""Latent actions of a game against its true actions, beside chance and a supervised ceiling."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.games.games import ScoredGame
from genie_gym.metrics.action_groups import ActionGroups
from genie_gym.metrics.controllability import label_clips
from genie_gym.metrics.held_out import ClipPool, EvaluationClips
from genie_gym.metrics.inverse_model import predict_actions, train_inverse_model
from genie_gym.metrics.latent_actions import balanced_accuracy, fit_maps, score_labels, score_use
from genie_gym.models.latent_action_model import require_learned
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.weights import write_tensors
from genie_gym.training.merging import find_centres

_HISTORY = 3
"""Number of frames up to t that the supervised model sees, as the latent action model does."""
_NUMBERS = (2, 4, 8, 16, 32)
"""Numbers of latent actions into which one model's latents are merged."""


class Reference(NamedTuple):
    """What a supervised model tells of the true actions of the scored clips."""

    predicted: dict[str, Tensor]
    """(B, T - 1) kinds by grouping."""
    groups: ActionGroups
    """The groupings."""
    scores: dict[str, float]
    """``axis_chance`` and ``axis_ceiling``, balanced accuracies on the main axis; ``all_chance``, ``all_ceiling``."""

    @property
    def gain(self) -> float:
        """Gain over chance on the main axis."""
        return self.scores["axis_ceiling"] - self.scores["axis_chance"]


def find_reference(
    game: ScoredGame, training: ClipPool, clips: EvaluationClips, train_steps: int, seed: int, file: Path
) -> Reference:
    """Train a supervised model on up to ``train_steps`` batches of the training levels, and ask it about ``clips``.

    Its answers are kept in ``file``, and read from there by a later call.
    """
    if not file.is_file():
        size = (clips.videos.shape[-2], clips.videos.shape[-1])
        ceiling = train_inverse_model(training, _HISTORY, size, train_steps, seed)
        write_tensors(file, predict_actions(ceiling.model, clips.videos))
    predicted, groups = load_file(file), training.known_groups()
    scores = {}
    for name, grouping in (("axis", game.axis), ("all", groups.finest)):
        kinds = groups.group(known_actions(clips))[grouping]
        scores[f"{name}_chance"] = 1 / kinds.unique().numel()
        scores[f"{name}_ceiling"] = balanced_accuracy(predicted[grouping], kinds, groups.sizes[grouping])
    return Reference(predicted, groups, scores)


def known_actions(clips: EvaluationClips) -> Tensor:
    """Return the (B, T - 1) int64 true actions of recorded clips."""
    assert clips.real_actions is not None
    return clips.real_actions


def score_game_labels(
    game: ScoredGame, world: GenieWorldModel, mapped: EvaluationClips, clips: EvaluationClips, reference: Reference
) -> dict[str, Any]:
    """Score the labels of ``clips`` by maps that are fitted on the clips ``mapped`` of other levels.

    Returns:
        ``axis_accuracy`` and ``axis_kept``, the gain over chance as a share of the supervised model's, on the main
        axis; ``all_accuracy`` and ``all_kept``; ``perplexity`` and number ``used`` of latent actions.
    """
    labels = label_clips(world, mapped.videos), label_clips(world, clips.videos)
    return _score(game, *labels, world.config.num_latent_actions, mapped, clips, reference)


def score_numbers_of_actions(
    game: ScoredGame, world: GenieWorldModel, mapped: EvaluationClips, clips: EvaluationClips, reference: Reference
) -> list[dict[str, Any]]:
    """Score labels of the world's latent action model with other numbers of latent actions.

    Returns:
        A row for each number of clusters of latents, and one for the codes: ``actions``, ``merging`` (``latents``, or
        ``none`` for the codes) and the scores of ``score_game_labels``.
    """
    model = world.latent_action_model
    codes = require_learned(model.config).quantizer.codes
    fitted, scored = _read_all(model.latents, mapped), _read_all(model.latents, clips)
    rows = []
    for actions in _NUMBERS:
        centres = find_centres(fitted[:, 1:].flatten(0, 1), actions)
        nearest, asked = torch.cdist(fitted, centres).argmin(dim=-1), torch.cdist(scored, centres).argmin(dim=-1)
        scores = _score(game, nearest, asked, actions, mapped, clips, reference)
        rows.append({"actions": actions, "merging": "latents", **scores})
    coded, asked = _read_all(model.encode, mapped), _read_all(model.encode, clips)
    return [
        *rows,
        {"actions": codes, "merging": "none", **_score(game, coded, asked, codes, mapped, clips, reference)},
    ]


def _read_all(read: Callable[[Tensor], Tensor], clips: EvaluationClips) -> Tensor:
    """Return what ``read`` makes of all clips, 32 at a time."""
    return torch.cat([read(part) for part in clips.videos.split(32)])


def _score(
    game: ScoredGame,
    fitted: Tensor,
    labels: Tensor,
    actions: int,
    mapped: EvaluationClips,
    clips: EvaluationClips,
    reference: Reference,
) -> dict[str, Any]:
    groups = reference.groups
    maps = fit_maps(fitted, known_actions(mapped), actions, groups)
    scores = score_labels(labels, known_actions(clips), maps, reference.predicted, groups)
    use = score_use(labels, actions)
    parts = {"axis": scores[game.axis], "all": scores[groups.finest]}
    found = {f"{name}_{kind}": part[kind] for name, part in parts.items() for kind in ("accuracy", "kept")}
    return {**found, "perplexity": use["perplexity"], "used": use["used"]}
