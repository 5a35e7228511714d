"""Outputs of a world on real clips (reconstructions, latent actions, roll-outs), from which it is scored."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.metrics.action_groups import ActionGroups
from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.controllability import Rollouts, label_clips, play_clips
from genie_gym.metrics.fvd import FeatureExtractor, load_i3d, procgen_features
from genie_gym.metrics.held_out import ClipPool, EvaluationClips
from genie_gym.metrics.inverse_model import Ceiling, predict_actions, train_inverse_model
from genie_gym.metrics.latent_actions import fit_maps
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.real_actions import RealActionConfig

CLUSTERED_CLIPS, MAPPED_CLIPS = 128, 512
"""Numbers of separate clips for k-means, and for the maps from latent to real actions."""
LONG_PROMPT_FRAMES = 4
"""Number of frames of the longer prompts, which show velocities, unlike single frames."""
_HISTORY = 3
"""Number of frames up to t that the inverse model sees: the same for all worlds, so that they have one ceiling."""

Report = Callable[[str, float], object]
"""Function that is called with the name of a stage and the share of it done, 0 to 1."""


class EncodedClips(NamedTuple):
    """Real clips as the tokenizer, the latent action model and the k-means baseline encode them."""

    tokens: Tensor
    """(B, T, N) int64."""
    rebuilt: Tensor
    """(B, T, C, H, W) decoded from the tokens."""
    labels: Tensor
    """(B, T - 1) latent actions; in a world of real actions, these."""
    clustered: Tensor
    """(B, T, C, H, W) rebuilt by k-means over patches."""


class ActionReference(NamedTuple):
    """The true actions of clips, with the maps and predictions by which latent actions are compared with them."""

    real_actions: Tensor
    """(B, T - 1) int64."""
    ceiling: dict[str, Tensor]
    """(B, T - 1) predictions of a supervised model in each grouping."""
    maps: dict[str, Tensor]
    """(A,) map from latent actions in each grouping, fitted on other clips."""
    supervised: Ceiling
    """The model that predicted ``ceiling``."""
    groups: ActionGroups
    """The groupings."""


class WorldOutputs(NamedTuple):
    """Everything that the scores of B clips are computed from."""

    encoded: EncodedClips
    rollouts: Rollouts
    """Roll-outs from one frame."""
    continued: Rollouts
    """Roll-outs from ``LONG_PROMPT_FRAMES`` frames, the last of which is frame 0 here."""
    actions: ActionReference | None
    """True actions to compare labels with; None if they are unknown, or the labels themselves."""
    features: dict[str, dict[str, Tensor]]
    """(B, D) features by name of the distance, then by kind of video: real, rolled out, or a baseline."""

    def take(self, indices: Tensor) -> "WorldOutputs":
        """Return the outputs of the clips at the given indices."""
        encoded = EncodedClips(*(each[indices] for each in self.encoded))
        rollouts, continued = (Rollouts(*(each[indices] for each in part)) for part in (self.rollouts, self.continued))
        actions = self.actions
        if actions is not None:
            ceiling = {name: predicted[indices] for name, predicted in actions.ceiling.items()}
            actions = actions._replace(real_actions=actions.real_actions[indices], ceiling=ceiling)
        features = {name: {kind: each[indices] for kind, each in by.items()} for name, by in self.features.items()}
        return WorldOutputs(encoded, rollouts, continued, actions, features)


def collect_outputs(
    world: GenieWorldModel, whole: EvaluationClips, fitted: ClipPool, config: EvaluateConfig, report: Report
) -> WorldOutputs:
    """Encode clips and roll them out, and do the same with the baselines.

    Args:
        world: World model in eval mode.
        whole: Clips to score.
        fitted: Clips of *other* levels, for k-means, the maps from latent to real actions, and the ceiling.
        config: Sizes of all measurements, and the seed.
        report: Called with each stage and the share of it done.

    Raises:
        ValueError: If there is no such I3D, or a world of real actions has none or others to play.
    """
    extractors: dict[str, FeatureExtractor] = {"fvd_procgen": procgen_features}
    if config.i3d is not None:
        extractors["fvd"] = load_i3d(config.i3d, config.device)
    drawn = fitted.draw(min(MAPPED_CLIPS, len(fitted.numbers)), config.seed)
    labels = find_labels(world, whole, fitted.groups)
    encoded = _encode(world, whole.videos, labels, drawn.videos[:CLUSTERED_CLIPS], config.seed, report)
    actions = _reference_actions(world, whole, fitted, drawn, config, report)
    stage = "rolling out clips from one frame"
    rollouts = play_clips(world, whole.videos, config.seed, report=partial(report, stage), labels=labels)
    stage = f"rolling out clips from {LONG_PROMPT_FRAMES} frames"
    progress = partial(report, stage)
    continued = play_clips(world, whole.videos, config.seed, LONG_PROMPT_FRAMES, report=progress, labels=labels)
    continued = Rollouts(*(videos[:, LONG_PROMPT_FRAMES - 1 :] for videos in continued))
    compared = list_compared(encoded.rebuilt, rollouts, whole.others)
    features = {name: extract_features(extractor, compared, report) for name, extractor in extractors.items()}
    return WorldOutputs(encoded, rollouts, continued, actions, features)


def find_labels(world: GenieWorldModel, clips: EvaluationClips, groups: ActionGroups | None) -> Tensor:
    """Return the (B, T - 1) actions of clips, as the world counts them: inferred, or in a world of real ones these.

    Raises:
        ValueError: If the clips tell no real actions, or another number of them than a world of real actions has.
    """
    part = world.config.latent_action_model
    if not isinstance(part, RealActionConfig):
        return label_clips(world, clips.videos)
    if clips.real_actions is None or groups is None:
        raise ValueError("data must be recordings with integer actions, since the world was trained on real ones")
    require(groups.number == part.actions, "number of the data's actions", groups.number, f"the world's {part.actions}")
    return clips.real_actions - groups.first


@torch.no_grad()
def _encode(
    world: GenieWorldModel,
    videos: Tensor,
    labels: Tensor,
    separate: Tensor,
    seed: int,
    report: Report,
    chunk: int = 32,
) -> EncodedClips:
    config = world.config.tokenizer
    report("k-means over patches", 0)
    means = fit_patches(separate, config.patch_size, config.quantizer.codes, seed)
    parts = []
    for number, clips in enumerate(videos.split(chunk)):
        report("tokens of clips", number * chunk / len(videos))
        tokens = world.tokenizer.encode(clips.to(world.device))
        decoded = world.tokenizer.decode(tokens).cpu()
        parts.append((tokens.cpu(), decoded, cluster_patches(clips, means, config.patch_size)))
    tokens, rebuilt, clustered = (torch.cat(column) for column in zip(*parts, strict=True))
    return EncodedClips(tokens, rebuilt, labels, clustered)


def _reference_actions(
    world: GenieWorldModel,
    whole: EvaluationClips,
    fitted: ClipPool,
    drawn: EvaluationClips,
    config: EvaluateConfig,
    report: Report,
) -> ActionReference | None:
    is_real = isinstance(world.config.latent_action_model, RealActionConfig)
    if is_real or whole.real_actions is None or drawn.real_actions is None:
        return None  # there is nothing to compare
    report("maps from latent to real actions", 0)
    groups, labels = fitted.known_groups(), label_clips(world, drawn.videos)
    maps = fit_maps(labels, drawn.real_actions, world.config.num_latent_actions, groups)
    size = (world.config.height, world.config.width)
    progress = partial(report, "training a supervised inverse model")
    supervised = train_inverse_model(fitted, _HISTORY, size, config.inverse_steps, config.seed, progress)
    predicted = predict_actions(supervised.model, whole.videos)
    return ActionReference(whole.real_actions, predicted, maps, supervised, groups)


def list_compared(rebuilt: Tensor, rollouts: Rollouts, others: Tensor | None) -> dict[str, Tensor]:
    """Return the (B, T, C, H, W) videos that video distances compare: real ones, roll-outs, and baselines.

    Args:
        rebuilt: Real clips as the tokenizer decodes them.
        rollouts: Real clips, and roll-outs under inferred and random latent actions.
        others: As many other real clips; None if there are too few.
    """
    return {
        "real": rollouts.real,
        "rollout": rollouts.inferred,
        "rebuilt": rebuilt,
        "copy_last": rollouts.real[:, :1].expand_as(rollouts.real),
        "random_actions": rollouts.random,
    } | ({} if others is None else {"other_real": others})


def extract_features(extract: FeatureExtractor, compared: dict[str, Tensor], report: Report) -> dict[str, Tensor]:
    """Return the (B, D) features of each kind of video of ``list_compared``."""
    features = {}
    for number, (kind, videos) in enumerate(compared.items()):
        report("features for video distances", number / len(compared))
        features[kind] = extract(videos)
    return features
