"""What experiments train: rivals of the same compute on the same recording, scored on validation levels."""

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import genie_gym
from genie_gym.configs import LatentActionConfig, RecordConfig, vary
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.data.held_out import LEVELS, Play, Pool, join, record_play
from genie_gym.data.players import parse_shares
from genie_gym.data.record import record
from genie_gym.metrics.controllability import bootstrap_interval, delta_psnr, label_clips, play_clips
from genie_gym.metrics.fvd import frechet_distance, procgen_features
from genie_gym.metrics.image import pooled_psnr
from genie_gym.metrics.latent_actions import GROUPS, fit_maps, score_labels, score_use
from genie_gym.models.base import LossOutput
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import VectorQuantizer
from genie_gym.presets import PRESETS
from genie_gym.training.loop import Batches, Trainee

PLAYERS = ("sticky=0.6", "expert=0.4")
CLIP_LENGTH = 16
CLIP_EVERY = 8
"""Frames between the starts of two clips whose tokens are kept."""


def record_levels(work: Path, levels: str, frames: int, seed: int) -> ClipDataset:
    """CoinRun, hard: what all rivals are trained on, and the same of validation levels to watch."""
    first, number = LEVELS[levels]
    config = RecordConfig(frames=frames, frames_per_shard=20_480, start_level=first, num_levels=number, seed=seed)
    folder = work / f"{levels}-{frames}-{seed}"
    record(config, parse_shares(PLAYERS), folder, progress=False)
    return ClipDataset(folder, clip_length=CLIP_LENGTH)


@functools.cache
def record_validation(clips: int, seed: int) -> Play:
    """Clips of validation levels, CoinRun hard, half sticky-random and half the expert's."""
    return join(record_play("expert", "validation", "hard", clips, seed))


def score_world(world: GenieWorldModel, play: Play, seed: int) -> dict[str, Any]:
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


def score_actions(world: GenieWorldModel, dataset: ClipDataset, play: Play, seed: int) -> dict[str, Any]:
    """Labels against true actions, with maps fitted on as many clips of the training recording."""
    assert play.real_actions is not None
    fitted = Pool(dataset, np.arange(len(dataset))).draw(min(512, len(dataset)), seed)
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


class Encoded:
    """Clips as tokens and latent actions of a finished world, computed once: ``numbers`` of batches are their rows.

    Args:
        world: Whose tokenizer and latent action model read the clips.
        dataset: The clips.
        path: File in which they are kept.
    """

    def __init__(self, world: GenieWorldModel, dataset: ClipDataset, path: Path) -> None:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(_encode(world, dataset), path)
        tensors = load_file(path)
        self.tokens, self.latent_actions = tensors["tokens"], tensors["latent_actions"]

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Batches of row numbers; there are no videos in them."""

        def draw(first: int, number: int) -> Iterator[Batch]:
            for index in range(first, first + number):
                rows = np.random.default_rng([seed, index]).integers(len(self.tokens), size=batch_size)
                yield Batch(torch.empty(batch_size, 0), torch.from_numpy(rows))

        return draw

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N) tokens and (B, T - 1) latent actions, int64."""
        return self.tokens[rows].long(), self.latent_actions[rows].long()


class EncodedTrainee(nn.Module):
    """A dynamics as the loop wants it, on encoded clips; watches its loss on held-out ones.

    Args:
        dynamics: To train.
        training: Clips to train on.
        held_out: Clips to watch.
    """

    def __init__(self, dynamics: MaskGITDynamics, training: Encoded, held_out: Encoded) -> None:
        super().__init__()
        self.dynamics, self._training, self._held_out = dynamics, training, held_out

    def loss(self, batch: Batch) -> LossOutput:
        """The dynamics' loss."""
        return self.dynamics.loss(*self._training.take(batch.numbers))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Loss on held-out clips with masks that are always the same; also under another clip's latent actions."""
        tokens, latent_actions = self._held_out.take(torch.arange(min(64, len(self._held_out.tokens))))
        losses = {}
        for name, actions in (("held_out", latent_actions), ("shuffled", latent_actions.roll(1, dims=0))):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                losses[name] = self.dynamics.loss(tokens, actions).loss
        return losses

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """None."""
        return {}


def build_rival(
    overrides: dict[str, Any], seed: int, device: str, latent_actions: LatentActionConfig | None = None
) -> GenieWorldModel:
    """The shipped world with a new, small dynamics.

    Args:
        overrides: Of the dynamics of the preset ``study``.
        seed: Of the new weights.
        device: Where to put it.
        latent_actions: Of a new latent action model too; ``None`` keeps the shipped one.
    """
    shipped = copy.deepcopy(genie_gym.load("coinrun", device, "float32"))
    config = replace(
        shipped.config,
        dynamics=vary(PRESETS["study"].world.dynamics, overrides),
        latent_action_model=latent_actions or shipped.config.latent_action_model,
        precision="float32",
    )
    torch.manual_seed(seed)
    world = GenieWorldModel(config, shipped.start_frames).to(device)
    world.tokenizer = shipped.tokenizer
    if latent_actions is None:
        world.latent_action_model = shipped.latent_action_model
    assert isinstance(shipped.tokenizer.quantizer, VectorQuantizer)
    world.dynamics.initialise(shipped.tokenizer.quantizer.codebook)
    return world


def encode_splits(work: Path, frames: int, seed: int) -> tuple[Encoded, Encoded]:
    """Clips of training and of validation levels as the shipped world's tokens and latent actions."""
    world = genie_gym.load("coinrun", precision="float32")
    counts = {"training": frames, "validation": max(2_048, frames // 20)}
    training, held_out = (
        Encoded(world, record_levels(work, levels, count, seed), work / f"tokens-{levels}-{count}-{seed}.safetensors")
        for levels, count in counts.items()
    )
    return training, held_out


@torch.no_grad()
def _encode(world: GenieWorldModel, dataset: ClipDataset, chunk: int = 32) -> dict[str, Tensor]:
    numbers = range(0, len(dataset), CLIP_EVERY)
    tokens, latent_actions = [], []
    for start in tqdm(range(0, len(numbers), chunk), desc="encoding clips", mininterval=5):
        videos = to_float(np.stack([dataset[number] for number in numbers[start : start + chunk]]))
        tokens.append(world.tokenizer.encode(videos).to(torch.int16))
        latent_actions.append(world.label(videos).to(torch.int16))
    return {"tokens": torch.cat(tokens), "latent_actions": torch.cat(latent_actions)}
