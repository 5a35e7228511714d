"""The upper bound (ceiling) of latent actions: a supervised network that predicts true actions from the same frames."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genie_gym.checks import require
from genie_gym.data.clips import Batch, draw_numbers
from genie_gym.data.frames import to_float
from genie_gym.metrics.action_groups import PROCGEN_GROUPS, ActionGroups
from genie_gym.metrics.held_out import ClipPool, read_actions
from genie_gym.metrics.latent_actions import balanced_accuracy
from genie_gym.models.base import LossOutput
from genie_gym.nn.convolution import StridedEncoder, stack_transitions
from genie_gym.nn.layers import Linear
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.training.loop import Phase, Trainee

_WIDTH, _FEATURES = 32, 128
_BATCH_SIZE, _WARMUP_STEPS = 128, 20
_MOST_CLIPS = 4_608
"""Largest number of clips held in memory, 0.9 GB at 64 x 64 pixels: about all that a default evaluation records."""
_HELD_OUT_SHARE = 1 / 16
"""Share of the clips, of levels of their own, on which training is watched."""
_CHECK_EVERY, _PATIENCE = 100, 3
"""Steps from one check on held-out clips to the next, and number of checks without gain after which training stops."""
_AVERAGING = 0.99
"""Share of the running average of the weights that a step keeps; the average is what is checked and returned."""


class InverseModel(nn.Module):
    """Predict the kind of action between two frames, in each grouping, from these and earlier frames.

    Args:
        history: Number of frames up to t in its input, to which frame t + 1 and the change to it are added.
        size: Height and width of frames in pixels.
        groups: Groupings of the game's actions.
    """

    def __init__(self, history: int, size: tuple[int, int], groups: ActionGroups = PROCGEN_GROUPS) -> None:
        super().__init__()
        self.history = history
        self.encoder = StridedEncoder(3 * (history + 2), _WIDTH, _FEATURES, size)
        self.heads = nn.ModuleDict({name: Linear(_FEATURES, kinds) for name, kinds in groups.sizes.items()})

    def forward(self, videos: Tensor) -> dict[str, Tensor]:
        """Return (B, T - 1, kinds) logits for each grouping from (B, T, C, H, W) videos."""
        logits = self._predict(stack_transitions(videos, self.history).flatten(0, 1))
        return {name: each.unflatten(0, (len(videos), -1)) for name, each in logits.items()}

    def predict_last(self, videos: Tensor) -> dict[str, Tensor]:
        """Return (B, kinds) logits for the last transition of (B, history + 1, C, H, W) videos."""
        return self._predict(torch.cat([videos.flatten(1, 2) - 0.5, videos[:, -1] - videos[:, -2]], dim=1))

    def _predict(self, pixels: Tensor) -> dict[str, Tensor]:
        features = F.relu(self.encoder(pixels.contiguous(memory_format=torch.channels_last)))  # (M, _FEATURES)
        return {name: head(features) for name, head in self.heads.items()}


class _Transitions(NamedTuple):
    """Single transitions of K clips, in memory; a transition is its clip times T - 1 plus its place in the clip."""

    videos: Tensor
    """(K, T, H, W, 3) uint8."""
    kinds: dict[str, Tensor]
    """(K, T - 1) kinds of the true actions for each grouping."""
    sizes: Mapping[str, int]
    """Number of kinds in each grouping."""

    def batches(self, history: int, seed: int) -> Callable[[int, int], Iterator[Batch]]:
        """Return a function ``(first batch, number of batches) -> batches`` of (B, history + 1, C, H, W) videos.

        As in a whole clip, its first frame stands in for frames before it.
        """
        length, every = self.videos.shape[1] - 1, np.arange(self.videos.shape[0] * (self.videos.shape[1] - 1))

        def draw(first: int, number: int) -> Iterator[Batch]:
            for batch in range(first, first + number):
                numbers = torch.from_numpy(draw_numbers(every, _BATCH_SIZE, seed, batch))
                clips, places = numbers // length, numbers % length
                frames = (places[:, None] + torch.arange(1 - history, 2)).clamp(min=0)
                yield Batch(to_float(self.videos[clips[:, None], frames]), numbers)

        return draw


class Ceiling(NamedTuple):
    """A trained inverse model, and how its training ended."""

    model: InverseModel
    steps: int
    """Number of steps trained."""
    has_converged: bool
    """Whether training ended because the accuracy on held-out clips no longer rose, and not at the largest number."""
    clips: int
    """Number of clips trained on."""

    def describe(self) -> dict[str, int | bool]:
        """Return all but the model, for JSON."""
        return {name: value for name, value in self._asdict().items() if name != "model"}


class _Fitting(Trainee):
    """Train an ``InverseModel`` and keep the average of its weights that was best on held-out clips."""

    def __init__(self, model: InverseModel, training: _Transitions, held_out: _Transitions) -> None:
        super().__init__()
        self.model, self._training, self._held_out = model, training, held_out
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING)).requires_grad_(False)
        self.best, self.weights, self.checks_since = -float("inf"), dict[str, Tensor](), 0

    def loss(self, batch: Batch) -> LossOutput:
        """Return the cross-entropy with every kind of action weighted equally, as in balanced accuracy."""
        self.average.update_parameters(self.model)
        logits = self.model.predict_last(batch.videos)
        losses, metrics = [], {}
        for name, size in self._training.sizes.items():
            kinds = self._training.kinds[name].flatten()[batch.numbers]
            counts = torch.bincount(kinds, minlength=size)
            weights = kinds.numel() / (size * counts.clamp(min=1).float())
            losses.append(F.cross_entropy(logits[name], kinds, weights))
            metrics[name] = losses[-1].detach()
        return LossOutput(torch.stack(losses).sum(), metrics)

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Score the averaged weights on held-out clips, keep the best, and return the mean gain over chance."""
        predicted = predict_actions(self.average.module, self._held_out.videos)
        gains = [
            (balanced_accuracy(predicted[name], self._held_out.kinds[name], size) - 1 / size) / (1 - 1 / size)
            for name, size in self._held_out.sizes.items()
        ]
        gain = sum(gains) / len(gains)
        self.checks_since += 1
        if gain > self.best:
            self.best, self.checks_since = gain, 0
            self.weights = {name: weight.clone() for name, weight in self.average.module.state_dict().items()}
        return {"held_out_gain": torch.tensor(gain)}


def train_inverse_model(
    pool: ClipPool,
    history: int,
    size: tuple[int, int],
    most_steps: int,
    seed: int,
    report: Callable[[float], object] = lambda share: None,
) -> Ceiling:
    """Train an ``InverseModel`` until its balanced accuracy on held-out clips stops rising; return it in eval mode.

    Args:
        pool: Clips to train on, of levels that are not scored. A part of them is held out.
        history: Number of frames up to t in its input.
        size: Height and width of frames in pixels.
        most_steps: Largest number of batches of 128 transitions.
        seed: Seed of weights, batches and of the clips held out.
        report: Called with the share of ``most_steps`` done, 0 to 1.

    Raises:
        ValueError: If the pool has no two clips that share no transition.
    """
    training, held_out = _split_clips(pool, seed)
    config = replace(
        SMALL_NETWORK_TRAINING,
        train_steps=most_steps,
        batch_size=_BATCH_SIZE,
        optimizer=replace(SMALL_NETWORK_TRAINING.optimizer, schedule="constant", warmup_steps=_WARMUP_STEPS),
        checkpoint_every=most_steps,
        log_every=_CHECK_EVERY,
        seed=seed,
    )
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        fitting = _Fitting(InverseModel(history, size, pool.known_groups()), training, held_out)
        batches = training.batches(history, seed)
        steps = 0

        def draw(first: int, number: int) -> Iterator[Batch]:
            nonlocal steps
            for batch in batches(first, number):
                if fitting.checks_since >= _PATIENCE:
                    return
                report(steps / number)
                steps += 1
                yield batch

        Phase(draw, config, Path(folder), progress=False).run(fitting)
    has_converged = fitting.checks_since >= _PATIENCE
    fitting.probe(Batch(torch.empty(0), torch.empty(0)))  # the last steps, too, may be the best
    fitting.model.load_state_dict(fitting.weights)
    return Ceiling(fitting.model.eval().requires_grad_(False), steps, has_converged, len(training.videos))


@torch.no_grad()
def predict_actions(model: nn.Module, videos: Tensor, chunk: int = 32) -> dict[str, Tensor]:
    """Return the most likely kind of action of every transition for each grouping, (B, T - 1) int64 each.

    ``videos`` are (B, T, C, H, W) float in [0, 1] or (B, T, H, W, C) uint8.
    """
    parts = []
    for part in videos.split(chunk):
        logits = model(to_float(part) if part.dtype == torch.uint8 else part)
        parts.append({name: each.argmax(dim=-1) for name, each in logits.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def predict_last_actions(model: InverseModel, videos: Tensor, chunk: int = 128) -> dict[str, Tensor]:
    """Return the most likely kind of action of the last transition of (B, T, C, H, W) videos, (B,) int64 each.

    T is at least ``model.history`` + 1.
    """
    parts = [model.predict_last(part[:, -1 - model.history :]) for part in videos.split(chunk)]
    return {name: torch.cat([part[name].argmax(dim=-1) for part in parts]) for name in parts[0]}


def _split_clips(pool: ClipPool, seed: int) -> tuple[_Transitions, _Transitions]:
    """Read clips that share no transition, and return those to train on and those held out.

    Clips of a level stay together, but for those of one level at the border.
    """
    dataset, generator = pool.dataset, np.random.default_rng(seed)
    firsts, last, chosen = dataset.first_frames, -dataset.clip_length, []
    for number in np.sort(pool.numbers):
        if firsts[number] >= last + dataset.clip_length - 1:
            chosen.append(int(number))
            last = firsts[number]
    clips = generator.permutation(chosen)[:_MOST_CLIPS]
    require(len(clips) > 1, "clips", len(clips), "two or more that share no transition, to train a supervised model")
    levels = np.array([dataset.level(int(number)) for number in clips])
    _, level = np.unique(levels, return_inverse=True)
    clips = clips[np.argsort(generator.permutation(level.max() + 1)[level], kind="stable")]
    border = max(1, int(len(clips) * _HELD_OUT_SHARE))
    return _read_transitions(pool, clips[border:]), _read_transitions(pool, clips[:border])


def _read_transitions(pool: ClipPool, numbers: np.ndarray) -> _Transitions:
    numbers = np.sort(numbers)  # neighbours share chunks on disk
    videos = torch.from_numpy(np.stack([pool.dataset[int(number)] for number in numbers]))
    groups = pool.known_groups()
    return _Transitions(videos, groups.group(read_actions(pool.dataset, numbers)), groups.sizes)
