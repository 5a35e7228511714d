"""How the ladder trains one of the three models alone, and what it scores it by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from experiments.release.rungs import DYNAMICS, Part, Variant
from experiments.rivals import count_step, record_levels, record_validation, score_world
from experiments.shipped_rivals import EncodedTrainee, build_rival, encode_splits
from genie_gym.config_io import vary
from genie_gym.configs import Preset, TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.held_out import ClipPool, EvaluationClips
from genie_gym.metrics.image import moving_psnr, pooled_psnr
from genie_gym.metrics.inverse_model import predict_actions, train_inverse_model
from genie_gym.metrics.latent_actions import GROUPS, fit_maps, score_labels, score_use
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import Row
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.loop import Batches, Phase, Trainee
from genie_gym.training.run import clips
from genie_gym.training.tokenizer import TokenizerTrainee, train_tokenizer

CHUNK = 32
"""Clips at once."""


@dataclass(frozen=True, kw_only=True)
class Climb:
    """One run of the ladder."""

    work: Path
    """Of recordings."""
    folder: Path
    """Of the run."""
    variant: Variant
    """What to try."""
    usual: Variant
    """Whose ``train_steps`` training steps set the compute."""
    train_steps: int
    """Of the usual one."""
    frames: int
    """Recorded."""
    clips: int
    """To score."""
    inverse_steps: int
    """Training batches of the supervised ceiling of labels."""
    data_seed: int
    """Of recordings and scores."""
    seed: int
    """Of weights and batches."""
    device: str
    """Where to train."""

    def preset(self, variant: Variant) -> Preset:
        """The preset ``study`` as the variant has it."""
        return vary(PRESETS["study"], variant.overrides)

    def record(self, levels: str) -> ClipDataset:
        """Clips of training or validation levels."""
        frames = self.frames if levels == "training" else max(self.frames // 8, 4_096)
        return record_levels(self.work, levels, frames, self.data_seed, self.variant.frame_step)

    def equal_steps(
        self, config: TrainConfig, enter: Callable[[Variant], Trainee], batch: Batch
    ) -> tuple[TrainConfig, Row]:
        """A training config of as much compute as the variant may take, and what a step costs."""
        own, usual = (count_step(enter(each), batch) for each in (self.variant, self.usual))
        steps = max(1, round(self.variant.compute * self.train_steps * usual / own))
        return replace(config, train_steps=steps, seed=self.seed), {"train_steps": steps, "step_gflop": own / 1e9}


def climb_tokenizer(climb: Climb) -> Row:
    """Train a tokenizer; PSNR beside that of k-means with as many tokens and codes."""
    preset, whole = climb.preset(climb.variant), climb.record("training").in_memory()
    dataset = whole.cut(preset.tokenizer_training.clip_length)

    def enter(variant: Variant) -> TokenizerTrainee:
        return TokenizerTrainee(VideoTokenizer(climb.preset(variant).world).to(climb.device))

    batch = next(iter(clips(dataset, preset.tokenizer_training, climb.device)(0, 1)))
    config, counts = climb.equal_steps(preset.tokenizer_training, enter, batch)
    torch.manual_seed(climb.seed)
    tokenizer = enter(climb.variant).tokenizer
    train_tokenizer(tokenizer, Phase(clips(dataset, config, climb.device), config, climb.folder))
    tokenizer.eval().requires_grad_(False)
    videos = record_validation(climb.clips, climb.data_seed).videos
    tokens = torch.cat([tokenizer.encode(part.to(climb.device)) for part in videos.split(CHUNK)])
    rebuilt = torch.cat([tokenizer.decode(part).cpu() for part in tokens.split(CHUNK)])
    part = preset.world.tokenizer
    fitted = _draw(whole, 128, climb.data_seed)
    means = fit_patches(fitted.videos, part.patch_size, part.quantizer.codes, climb.data_seed)
    clustered = cluster_patches(videos, means, part.patch_size)
    scores = {
        "psnr": pooled_psnr(rebuilt, videos),
        "moving_psnr": moving_psnr(videos, rebuilt),
        "kmeans_psnr": pooled_psnr(clustered, videos),
        "codes_used": tokens.unique().numel(),
        "tokens_per_frame": tokens.shape[-1],
    }
    return {**counts, **scores}


def climb_actions(climb: Climb) -> Row:
    """Train a latent action model; its labels against true actions, between chance and the supervised ceiling."""
    preset, whole = climb.preset(climb.variant), climb.record("training").in_memory()
    dataset = whole.cut(preset.world_training.clip_length)
    world, actions = preset.world, preset.world.num_latent_actions

    def enter(variant: Variant) -> ActionsTrainee:
        return ActionsTrainee(LatentActionModel(climb.preset(variant).world).to(climb.device))

    batch = next(iter(clips(dataset, preset.world_training, climb.device)(0, 1)))
    config, counts = climb.equal_steps(preset.world_training, enter, batch)
    torch.manual_seed(climb.seed)
    trainee = enter(climb.variant)
    Phase(clips(dataset, config, climb.device), config, climb.folder).run(trainee)
    model = trainee.latent_action_model.eval().requires_grad_(False)

    def label(videos: torch.Tensor) -> torch.Tensor:
        return torch.cat([model.label(part.to(climb.device)).cpu() for part in videos.split(CHUNK)])

    fitted = _draw(whole, 4 * climb.clips, climb.data_seed)
    play = _draw(climb.record("validation"), climb.clips, climb.data_seed)
    assert fitted.real_actions is not None
    assert play.real_actions is not None
    history, size = getattr(world.latent_action_model, "history", 3), (world.height, world.width)
    inverse = train_inverse_model(_pool(whole), history, size, climb.inverse_steps, climb.data_seed)
    labels, maps = label(play.videos), fit_maps(label(fitted.videos), fitted.real_actions, actions)
    scores = score_labels(labels, play.real_actions, maps, predict_actions(inverse, play.videos))
    flat = {f"{name}_{kind}": scores[name][kind] for name in GROUPS for kind in ("accuracy", "ceiling", "kept")}
    return {**counts, "nmi": scores["nmi"], "perplexity": score_use(labels, actions)["perplexity"], **flat}


def climb_dynamics(climb: Climb) -> Row:
    """Train a dynamics on the shipped world's tokens and latent actions; its roll-outs."""
    encoded = encode_splits(climb.work, climb.frames, climb.data_seed)
    batches: Batches = encoded[0].batches(PRESETS["study"].world_training.batch_size, climb.seed)

    def build(variant: Variant) -> GenieWorldModel:
        overrides = {path.removeprefix(f"{DYNAMICS}."): value for path, value in variant.overrides.items()}
        return build_rival(overrides, climb.seed, climb.device)

    def enter(variant: Variant) -> EncodedTrainee:
        return EncodedTrainee(build(variant).dynamics, *encoded)

    training = climb.preset(climb.variant).world_training
    config, counts = climb.equal_steps(training, enter, next(iter(batches(0, 1))))
    world = build(climb.variant)
    Phase(batches, config, climb.folder).run(EncodedTrainee(world.dynamics, *encoded))
    world.eval().requires_grad_(False)
    return {**counts, **score_world(world, record_validation(climb.clips, climb.data_seed), climb.data_seed)}


def _pool(dataset: ClipDataset) -> ClipPool:
    return ClipPool(dataset, np.arange(len(dataset)))


def _draw(dataset: ClipDataset, number: int, seed: int) -> EvaluationClips:
    return _pool(dataset).draw(min(number, len(dataset)), seed)


CLIMBS: dict[Part, Callable[[Climb], Row]] = {
    "tokenizer": climb_tokenizer,
    "actions": climb_actions,
    "dynamics": climb_dynamics,
}
SCORES: dict[Part, dict[str, str]] = {
    "tokenizer": {"psnr": "PSNR, dB", "kmeans_psnr": "k-means"},
    "actions": {"direction_kept": "left / still / right, kept", "up_kept": "up / none, kept"},
    "dynamics": {"delta_psnr": "delta PSNR, t = 4, dB", "fvd_procgen": "fvd_procgen"},
}
"""By part what is drawn, with its label."""
