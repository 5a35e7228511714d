"""What experiments train: rivals of the same compute on the same recording, scored on validation levels."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from genie_gym.configs import RecordConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.record import record
from genie_gym.metrics.controllability import bootstrap_interval, delta_psnr, label_clips, play_clips
from genie_gym.metrics.fvd import frechet_distance, procgen_features
from genie_gym.metrics.held_out import (
    CLIP_LENGTH,
    ClipPool,
    EvaluationClips,
    join_clips,
    record_clips_by_player,
    restrict,
)
from genie_gym.metrics.image import pooled_psnr
from genie_gym.metrics.latent_actions import GROUPS, fit_maps, score_labels, score_use
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import parse_shares
from genie_gym.training.loop import Trainee

PLAYERS = ("sticky=0.6", "expert=0.4")


def record_levels(work: Path, levels: str, frames: int, seed: int, frame_step: int = 1) -> ClipDataset:
    """CoinRun, hard: what all rivals are trained on, and the same of validation levels to watch."""
    config = RecordConfig(frames=frames, frames_per_shard=20_480, seed=seed)
    folder = work / f"{levels}-{frames}-{seed}"
    record(restrict(config, levels), parse_shares(PLAYERS), folder, progress=False)
    return ClipDataset(folder, clip_length=CLIP_LENGTH, frame_step=frame_step)


@functools.cache
def record_validation(clips: int, seed: int) -> EvaluationClips:
    """Clips of validation levels, CoinRun hard, half sticky-random and half the expert's."""
    return join_clips(record_clips_by_player("expert", "validation", "hard", clips, seed))


def score_world(world: GenieWorldModel, play: EvaluationClips, seed: int) -> dict[str, Any]:
    """What rivals are compared by: ``fvd_procgen`` of roll-outs, delta PSNR with its interval, roll-outs, tokenizer."""
    videos = play.videos
    played = play_clips(world, videos, seed)
    values = delta_psnr(played, 4)
    with torch.no_grad():
        rebuilt = torch.cat([world.tokenizer.decode(world.tokenizer.encode(part)) for part in videos.split(32)])
    real = procgen_features(videos)
    return {
        "fvd_procgen": frechet_distance(real, procgen_features(played.inferred)),
        "fvd_procgen_rebuilt": frechet_distance(real, procgen_features(rebuilt)),
        "delta_psnr": float(values.mean()),
        "interval": bootstrap_interval(values, seed),
        "tokenizer_psnr": pooled_psnr(rebuilt, videos),
        "rollout_psnr": {str(t): pooled_psnr(played.inferred[:, t], videos[:, t]) for t in (1, 4, 8, 15)},
        "copy_last_psnr": {str(t): pooled_psnr(videos[:, 0], videos[:, t]) for t in (1, 4, 8, 15)},
    }


def score_actions(world: GenieWorldModel, dataset: ClipDataset, play: EvaluationClips, seed: int) -> dict[str, Any]:
    """Labels against true actions, with maps fitted on as many clips of the training recording."""
    assert play.real_actions is not None
    fitted = ClipPool(dataset, np.arange(len(dataset))).draw(min(512, len(dataset)), seed)
    assert fitted.real_actions is not None
    actions = world.config.num_latent_actions
    maps = fit_maps(label_clips(world, fitted.videos), fitted.real_actions, actions)
    labels = label_clips(world, play.videos)
    scores = score_labels(labels, play.real_actions, maps)
    accuracies = {name: scores[name]["accuracy"] for name in GROUPS}
    return {"perplexity": score_use(labels, actions)["perplexity"], "nmi": scores["nmi"], **accuracies}


def count_step(trainee: Trainee, batch: Batch) -> int:
    """Floating-point operations of one training step, forward and backward: products and attention."""
    assert isinstance(trainee, nn.Module)
    trainee.train()
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        trainee.loss(batch).loss.backward()
    trainee.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def count_memory(trainee: Trainee, batch: Batch) -> int:
    """Bytes that the forward pass of one training step keeps for the backward pass, weights apart."""
    assert isinstance(trainee, nn.Module)
    trainee.train()
    weights = {weight.untyped_storage().data_ptr() for weight in trainee.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trainee.loss(batch).loss
    del loss
    return sum(kept.values())


def draw_rivals(
    rows: list[dict[str, Any]], key: str, rivals: Sequence[str], labels: dict[str, str], path: Path
) -> None:
    """A dot for every run: one panel for each score in ``labels``, one column for each rival, ``row[key]``."""
    figure, axes = plt.subplots(1, len(labels), figsize=(3.2 * len(labels), 3), squeeze=False)
    for axis, (score, label) in zip(axes[0], labels.items(), strict=True):
        for place, rival in enumerate(rivals):
            values = [row[score] for row in rows if row[key] == rival]
            axis.plot([place] * len(values), values, "o")
        axis.set(xticks=range(len(rivals)), xticklabels=rivals, ylabel=label, xlim=(-0.5, len(rivals) - 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
