"""Variants of a model at equal compute: trained on one recording, scored on validation levels, drawn side by side.

Variants of the dynamics train on tokens and latent actions of the shipped world, which are computed once and saved.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import genie_gym
from genie_gym.config_io import vary
from genie_gym.configs import LatentActionConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.record import record
from genie_gym.metrics import held_out
from genie_gym.metrics.action_groups import PROCGEN_GROUPS
from genie_gym.metrics.controllability import bootstrap_interval, delta_psnr, label_clips, play_clips
from genie_gym.metrics.fvd import frechet_distance, procgen_features
from genie_gym.metrics.held_out import CLIP_LENGTH, EvaluationClips
from genie_gym.metrics.image import pooled_psnr
from genie_gym.metrics.latent_actions import fit_maps, score_labels, score_use
from genie_gym.models.base import LossOutput
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.weights import digest_weights, write_tensors
from genie_gym.players.specs import parse_shares
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import Row, VariantExperiment
from genie_gym.training.loop import Batches, Trainee

_SIZES = {
    "smoke": {"frames": 4_096, "clips": 8, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "seeds": 3},
}
"""Sizes by preset: ``frames`` of training levels recorded, ``clips`` scored, and ``seeds``."""
_LABELS = {
    "delta_psnr": "delta PSNR, t = 4, dB",
    "fvd_procgen_rebuilt": "fvd_procgen, rebuilt",
    "tokenizer_psnr": "tokenizer PSNR, dB",
    "held_out_loss": "held-out loss, nats",
    "nmi": "NMI with the nine moves",
    "perplexity": "perplexity of labels",
}
"""Labels of axes by JSON key; other keys are their own label."""
_PLAYERS = ("sticky=0.6", "expert=0.4")  # with their shares of the recorded games
_CLIP_EVERY = 8  # frames between the starts of two clips that are encoded


def record_variant_clips(work: Path, levels: str, frames: int, seed: int) -> ClipDataset:
    """Return clips of hard CoinRun on ``training`` or ``validation`` levels, recorded first if missing in ``work``."""
    config = RecordConfig(frames=frames, frames_per_shard=20_480, seed=seed)
    folder = work / f"{levels}-{frames}-{seed}"
    record(held_out.restrict(config, levels), parse_shares(_PLAYERS), folder, progress=False)
    return ClipDataset(folder, clip_length=CLIP_LENGTH)


@functools.cache
def record_play(
    clips: int, seed: int, mode: str = "hard", levels: str = "validation", player: str = "expert"
) -> EvaluationClips:
    """Record ``clips`` clips of CoinRun, half of them sticky-random play and half by the ``player`` of that spec."""
    return held_out.join_clips(held_out.record_clips_by_player(player, levels, mode, clips, seed))


def score_world(world: GenieWorldModel, play: EvaluationClips, seed: int) -> dict[str, Any]:
    """Score the tokenizer, and roll-outs by ``fvd_procgen``, delta PSNR with its interval, and PSNR beside copying."""
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
    """Score how well labels of ``play`` predict true actions, by maps fitted on up to 512 clips of ``dataset``."""
    assert play.real_actions is not None
    fitted = held_out.read_clips(dataset, np.random.default_rng(seed).permutation(len(dataset))[:512])
    assert fitted.real_actions is not None
    actions = world.config.num_latent_actions
    maps = fit_maps(label_clips(world, fitted.videos), fitted.real_actions, actions)
    labels = label_clips(world, play.videos)
    scores = score_labels(labels, play.real_actions, maps)
    accuracies = {name: scores[name]["accuracy"] for name in PROCGEN_GROUPS.kinds}
    return {"perplexity": score_use(labels, actions)["perplexity"], "nmi": scores["nmi"], **accuracies}


def count_step(trainee: Trainee, batch: Batch) -> int:
    """Count the floating-point operations, in matrix products and attention alone, of a training step on a batch."""
    trainee.train()
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        trainee.loss(batch).loss.backward()
    trainee.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def match_compute(trainee: Trainee, reference: Trainee, steps: int, batch: Batch) -> Row:
    """Return the ``train_steps`` that take as many operations as ``steps`` of the reference, and its ``step_gflop``."""
    step = count_step(trainee, batch)
    return {"train_steps": max(1, round(steps * count_step(reference, batch) / step)), "step_gflop": step / 1e9}


def count_parameters(part: nn.Module) -> int:
    """Return the number of weights of a module."""
    return sum(weight.numel() for weight in part.parameters())


def count_memory(trainee: Trainee, batch: Batch) -> int:
    """Count the bytes that a forward pass on a batch keeps for the backward pass, without the weights."""
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


@dataclass(frozen=True, kw_only=True)
class VariantTable(VariantExperiment):
    """An experiment that trains all variants for the same number of floating-point operations, and scores them."""

    key: ClassVar[str]
    """JSON key under which a row names its variant"""
    kinds: ClassVar[tuple[str, ...]]
    """names of the variants, in the order of the figure"""
    steps: ClassVar[Mapping[str, dict[str, int]]]
    """numbers of training steps by preset and JSON key"""
    scores: ClassVar[tuple[str, ...]]
    """JSON keys of the scores that the figure shows, in a panel each"""

    @property
    def size(self) -> dict[str, int]:
        """Return the preset's numbers of frames recorded, clips scored, seeds and training steps."""
        return _SIZES[self.preset] | self.steps[self.preset]

    def run(self) -> None:
        """Train and score the missing rows, write the results and draw the figure."""
        cells = self.repeat_over_seeds([{self.key: kind} for kind in self.kinds], self.size["seeds"])
        self._draw(self.finish_rows(cells, {"shipped": digest_shipped(), **self.size}, self.train))

    def train(self, cell: Row) -> Row:
        """Train and score the variant of a cell, and return the rest of the cell's row."""
        raise NotImplementedError

    def record_training(self) -> ClipDataset:
        """Return clips of training levels, recorded first if missing, in memory."""
        clips = record_variant_clips(self.work / self.preset, "training", self.size["frames"], self.seed)
        return clips.in_memory()

    def score(self, world: GenieWorldModel, part: nn.Module) -> Row:
        """Freeze and score a trained world; return the scores and the ``parameters`` of the part that varies."""
        world.eval().requires_grad_(False)
        scores = score_world(world, record_play(self.size["clips"], self.seed), self.seed)
        return {"parameters": count_parameters(part), **scores}

    def _draw(self, rows: list[Row]) -> None:
        """Draw a dot for each run: one panel for each of ``scores``, one column for each of ``kinds``."""
        figure, axes = plt.subplots(1, len(self.scores), figsize=(3.2 * len(self.scores), 3), squeeze=False)
        for axis, score in zip(axes[0], self.scores, strict=True):
            for place, kind in enumerate(self.kinds):
                values = [row[score] for row in rows if row[self.key] == kind]
                axis.plot([place] * len(values), values, "o")
            axis.set(xticks=range(len(self.kinds)), xticklabels=self.kinds, xlim=(-0.5, len(self.kinds) - 0.5))
            axis.set_ylabel(_LABELS.get(score, score))
        save_figure(figure, self.picture)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure with tight margins, and close it."""
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


class Encoded(NamedTuple):
    """M clips as tokens and latent actions of a frozen world; the ``numbers`` of a batch are indices of clips."""

    tokens: Tensor
    """(M, T, N) int64."""
    latent_actions: Tensor
    """(M, T - 1) int64."""

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Return batches of randomly drawn ``numbers``, without videos."""

        def draw(first: int, number: int) -> Iterator[Batch]:
            for index in range(first, first + number):
                rows = np.random.default_rng([seed, index]).integers(len(self.tokens), size=batch_size)
                yield Batch(torch.empty(batch_size, 0), torch.from_numpy(rows))

        return draw


class EncodedTrainee(Trainee):
    """A dynamics that trains on encoded clips; its loss on the clips ``held_out``, of validation levels, is logged."""

    def __init__(self, dynamics: MaskGITDynamics, training: Encoded, held_out: Encoded) -> None:
        super().__init__()
        self.dynamics, self._training, self._held_out = dynamics, training, held_out

    def loss(self, batch: Batch) -> LossOutput:
        """Return the dynamics' loss."""
        return self.dynamics.loss(*(each[batch.numbers] for each in self._training))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of 64 held-out clips under fixed masks, with their own and another clip's latent actions."""
        tokens, latent_actions = (each[:64] for each in self._held_out)
        losses = {}
        for name, actions in (("held_out", latent_actions), ("shuffled", latent_actions.roll(1, dims=0))):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                losses[name] = self.dynamics.loss(tokens, actions).loss
        return losses


def digest_shipped() -> str:
    """Return 12 hex digits that identify the shipped world, whose tokens all comparable variants are trained on."""
    return digest_weights(genie_gym.load("coinrun", precision="float32"))[:12]


def build_variant(
    overrides: dict[str, Any], seed: int, device: str, latent_actions: LatentActionConfig | None = None
) -> GenieWorldModel:
    """Return the shipped world with a new, small dynamics, and a new latent action model if its config is given.

    ``overrides`` change fields of the preset ``study``'s dynamics, by dotted path; ``seed`` draws the new weights.
    """
    shipped = copy.deepcopy(genie_gym.load("coinrun", device, "float32"))
    config = replace(
        shipped.config,
        dynamics=vary(PRESETS["study"].world.dynamics, overrides),
        latent_action_model=latent_actions or shipped.config.latent_action_model,
        precision="float32",
    )
    torch.manual_seed(seed)
    world = GenieWorldModel(config, shipped.start_clips).to(device)
    world.tokenizer = shipped.tokenizer
    if latent_actions is None:
        world.latent_action_model = shipped.latent_action_model
    world.dynamics.initialise(shipped.tokenizer.quantizer.get_buffer("codebook"))
    return world


def encode_splits(work: Path, frames: int, seed: int) -> tuple[Encoded, Encoded]:
    """Return encoded clips of training and of validation levels, from ``frames`` frames of the former."""
    return _encode(work, "training", frames, seed), _encode(work, "validation", max(2_048, frames // 20), seed)


@torch.no_grad()
def _encode(work: Path, levels: str, frames: int, seed: int, chunk: int = 32) -> Encoded:
    """Return clips encoded by the shipped world; they are saved in ``work`` and read again by later runs."""
    path = work / f"tokens-{digest_shipped()}-{levels}-{frames}-{seed}.safetensors"
    if not path.exists():
        world = genie_gym.load("coinrun", precision="float32")
        dataset = record_variant_clips(work, levels, frames, seed)
        numbers, tokens, latent_actions = range(0, len(dataset), _CLIP_EVERY), [], []
        for start in tqdm(range(0, len(numbers), chunk), desc="encoding clips", mininterval=5):
            videos = to_float(np.stack([dataset[number] for number in numbers[start : start + chunk]]))
            tokens.append(world.tokenizer.encode(videos).to(torch.int16))
            latent_actions.append(world.label(videos).to(torch.int16))
        write_tensors(path, {"tokens": torch.cat(tokens), "latent_actions": torch.cat(latent_actions)})
    return Encoded(**{name: tensor.long() for name, tensor in load_file(path).items()})
