"""What a world makes of real clips: all that its scores are counted from."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.controllability import Rollouts, label_clips, play_clips
from genie_gym.metrics.fvd import Features, load_i3d, procgen_features
from genie_gym.metrics.held_out import ClipPool, EvaluationClips
from genie_gym.metrics.inverse_model import predict_actions, train_inverse_model
from genie_gym.metrics.latent_actions import fit_maps
from genie_gym.models.world_model import GenieWorldModel

CLUSTERED_CLIPS, MAPPED_CLIPS = 128, 512
"""Separate clips for k-means, and for the maps from latent to real actions."""
_HISTORY = 3
"""Frames up to t for the inverse model, where the latent action model has no such number."""
LONG_PROMPT_FRAMES = 4
"""Of longer prompts, which show how fast things move; one frame does not."""

Report = Callable[[str, float], object]
"""Hears of each stage, and how much of it is done, 0 to 1."""


class EncodedClips(NamedTuple):
    """What the models make of real clips."""

    tokens: Tensor
    """(B, T, N)."""
    rebuilt: Tensor
    """(B, T, C, H, W) from the tokens."""
    labels: Tensor
    """(B, T - 1) latent actions."""
    clustered: Tensor
    """(B, T, C, H, W) by k-means over patches."""

    def take(self, rows: Tensor) -> "EncodedClips":
        """Of some clips."""
        return EncodedClips(*(each[rows] for each in self))


class ActionReference(NamedTuple):
    """Of what was really done."""

    real_actions: Tensor
    """(B, T - 1)."""
    ceiling: dict[str, Tensor]
    """For each of ``latent_actions.GROUPS`` what a supervised model says, (B, T - 1)."""
    maps: dict[str, Tensor]
    """For each of them (A,) from latent actions, fitted on other clips."""

    def take(self, rows: Tensor) -> "ActionReference":
        """Of some clips."""
        return ActionReference(
            self.real_actions[rows], {name: said[rows] for name, said in self.ceiling.items()}, self.maps
        )


class WorldOutputs(NamedTuple):
    """Of B clips."""

    seen: EncodedClips
    played: Rollouts
    """From one frame."""
    continued: Rollouts
    """From ``LONG_PROMPT_FRAMES``; the last of them is frame 0 here."""
    answers: ActionReference | None
    """None where nobody knows what was done."""
    features: dict[str, dict[str, Tensor]]
    """By the name of the distance, (B, D) of real clips and of what is compared with them."""

    def take(self, rows: Tensor) -> "WorldOutputs":
        """Of some clips."""
        features = {name: {kind: each[rows] for kind, each in by.items()} for name, by in self.features.items()}
        answers = None if self.answers is None else self.answers.take(rows)
        played, continued = self.played.take(rows), self.continued.take(rows)
        return WorldOutputs(self.seen.take(rows), played, continued, answers, features)


def collect_outputs(
    world: GenieWorldModel, whole: EvaluationClips, fitted: ClipPool, config: EvaluateConfig, report: Report
) -> WorldOutputs:
    """Let a world see and play clips.

    Args:
        world: In eval mode.
        whole: The clips.
        fitted: Clips of *other* levels, for k-means, the maps from latent to real actions, and their ceiling.
        config: How much of everything, and the seed.
        report: Hears of progress.

    Raises:
        ValueError: If there is no such I3D.
    """
    extractors: dict[str, Features] = {"fvd_procgen": procgen_features}
    if config.i3d is not None:
        extractors["fvd"] = load_i3d(config.i3d, config.device)
    drawn = fitted.draw(min(MAPPED_CLIPS, len(fitted.numbers)), config.seed)
    seen = _see(world, whole.videos, drawn.videos[:CLUSTERED_CLIPS], config.seed, report)
    answers = _answer(world, whole, fitted, drawn, config, report)
    played = play_clips(world, whole.videos, config.seed, report=partial(report, "rolling out clips from one frame"))
    stage = f"rolling out clips from {LONG_PROMPT_FRAMES} frames"
    continued = play_clips(world, whole.videos, config.seed, LONG_PROMPT_FRAMES, report=partial(report, stage))
    continued = Rollouts(*(videos[:, LONG_PROMPT_FRAMES - 1 :] for videos in continued))
    features = {name: _extract(extractor, seen, played, report) for name, extractor in extractors.items()}
    return WorldOutputs(seen, played, continued, answers, features)


@torch.no_grad()
def _see(
    world: GenieWorldModel, videos: Tensor, separate: Tensor, seed: int, report: Report, chunk: int = 32
) -> EncodedClips:
    config = world.config.tokenizer
    report("k-means over patches", 0)
    means = fit_patches(separate, config.patch_size, config.quantizer.codes, seed)
    parts = []
    for number, clips in enumerate(videos.split(chunk)):
        report("tokens and latent actions of clips", number * chunk / len(videos))
        moved = clips.to(world.device)
        tokens = world.tokenizer.encode(moved)
        seen = (tokens, world.tokenizer.decode(tokens), world.label(moved))
        parts.append((*(part.cpu() for part in seen), cluster_patches(clips, means, config.patch_size)))
    return EncodedClips(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _answer(
    world: GenieWorldModel,
    whole: EvaluationClips,
    fitted: ClipPool,
    drawn: EvaluationClips,
    config: EvaluateConfig,
    report: Report,
) -> ActionReference | None:
    if whole.real_actions is None or drawn.real_actions is None:
        return None
    report("maps from latent to real actions", 0)
    maps = fit_maps(label_clips(world, drawn.videos), drawn.real_actions, world.config.num_latent_actions)
    part, stage = world.config.latent_action_model, "training a supervised inverse model"
    model = train_inverse_model(
        fitted,
        part.history if part.backbone == "conv" else _HISTORY,
        (world.config.height, world.config.width),
        config.inverse_steps,
        config.seed,
        lambda share: report(stage, share),
    )
    return ActionReference(whole.real_actions, predict_actions(model, whole.videos), maps)


def _extract(extractor: Features, seen: EncodedClips, played: Rollouts, report: Report) -> dict[str, Tensor]:
    videos = {
        "real": played.real,
        "rollout": played.inferred,
        "rebuilt": seen.rebuilt,
        "copy_last": played.real[:, :1].expand_as(played.real),
        "random_actions": played.random,
    }
    features = {}
    for number, (kind, each) in enumerate(videos.items()):
        report("features for video distances", number / len(videos))
        features[kind] = extractor(each)
    return features
