"""The classifier of clips (Genie, appendix B): a ResNet-18 that learns good against bad ratings, and its rule."""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from genie_gym.checks import is_finite, is_integer, require
from genie_gym.config_io import from_dict, to_dict
from genie_gym.configs import TrainConfig
from genie_gym.curation.clips import ShownClip, iterate_clips
from genie_gym.curation.config import ClassifierConfig
from genie_gym.curation.ratings import Ratings
from genie_gym.curation.scores import Scored, choose_threshold, score_rule, split_videos
from genie_gym.data.clips import Batch
from genie_gym.data.config import require_rate
from genie_gym.data.frames import to_float
from genie_gym.data.manifest import Chosen, Span
from genie_gym.models.base import LossOutput
from genie_gym.models.loading import require_device
from genie_gym.nn.resnet import ResNet18
from genie_gym.nn.weights import load_described, read_description, save_described
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.training.loop import Batches, Phase, Trainee

_FORMAT = 1
_PARTS = ("training", "validation", "test")
_CHUNK = 64
"""Clips scored at once."""


class Examples(NamedTuple):
    """Rated clips to learn from or to score; one entry a clip."""

    frames: np.ndarray
    """(M, K, H, W, 3) uint8."""
    is_good: np.ndarray
    """(M,) bool."""
    videos: np.ndarray
    """(M,) str: path of the video."""

    def select(self, indices: np.ndarray) -> "Examples":
        """Return some of the clips."""
        return Examples(*(each[indices] for each in self))


class ClipClassifier(NamedTuple):
    """A trained classifier, which keeps a clip if its confidence reaches the threshold."""

    network: ResNet18
    config: ClassifierConfig
    clip_frames: int
    """Number of frames of the clips that it learned from."""
    fps: float | None
    """Frames per second at which they were read."""
    threshold: float
    """Least confidence of a clip that is kept."""

    @torch.no_grad()
    def rate(self, frames: np.ndarray) -> np.ndarray:
        """Return the probability (M,) that each of (M, K, H, W, 3) uint8 clips is good."""
        device = next(self.network.parameters()).device
        parts = []
        for part in np.split(frames, range(_CHUNK, len(frames), _CHUNK)):
            pixels = to_float(part.reshape(-1, *part.shape[2:])).to(device)
            logits = _look(self.network, pixels).reshape(part.shape[:2]).double()
            parts.append(logits.mean(dim=1).sigmoid().cpu())
        return torch.cat(parts).numpy()


class RatingLearner(Trainee):
    """The network with its loss; odd rows of a batch are of good clips."""

    def __init__(self, network: ResNet18) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Batch) -> LossOutput:
        """Return the binary cross-entropy, and the share of frames told rightly."""
        logits, labels = _look(self.network, batch.videos[:, 0]), batch.numbers.to(batch.videos.device) % 2
        accuracy = ((logits > 0) == (labels == 1)).float().mean()
        return LossOutput(F.binary_cross_entropy_with_logits(logits, labels.float()), {"accuracy": accuracy})


def _look(network: ResNet18, pixels: torch.Tensor) -> torch.Tensor:
    """Return logits (M,) of frames (M, 3, H, W) in [0, 1]."""
    return network((4 * (pixels - 0.5)).contiguous(memory_format=torch.channels_last))[:, 0]


def read_examples(ratings: Ratings, config: ClassifierConfig) -> tuple[Examples, int]:
    """Read the clips with good or bad ratings, and return them with their number of frames.

    Raises:
        ValueError: If there are none, their lengths differ, or a video cannot be read.
    """
    used = [each for each in ratings.given if each.rating in (*config.good, *config.bad)]
    require(bool(used), "ratings", len(ratings.given), f"some of {config.good} for good and {config.bad} for bad clips")
    lengths = sorted({stop - start for _, (start, stop), _ in used})
    require(len(lengths) == 1, "lengths of rated clips", lengths, "equal")
    by_video: dict[Path, dict[Span, bool]] = defaultdict(dict)
    for path, span, rating in used:
        by_video[path.resolve()][span] = rating in config.good
    size, clips, is_good = (config.height, config.width), list[ShownClip](), list[bool]()
    for path, rated in tqdm(by_video.items(), desc="reading rated videos", unit="video"):
        for spans in _part_overlapping(rated):
            for clip in iterate_clips(Chosen(path, spans, fps=ratings.fps), lengths[0], config.frames, size):
                clips.append(clip)
                is_good.append(rated[clip.span])
    frames, videos = np.stack([clip.frames for clip in clips]), np.array([str(clip.path) for clip in clips])
    return Examples(frames, np.array(is_good), videos), lengths[0]


def _part_overlapping(spans: Iterable[Span]) -> list[tuple[Span, ...]]:
    """Return spans in as few groups as it takes for those of a group not to overlap, each in order."""
    groups: list[tuple[Span, ...]] = []
    for span in sorted(spans):
        place = next((place for place, group in enumerate(groups) if group[-1][1] <= span[0]), len(groups))
        groups[place : place + 1] = [(*(groups[place] if place < len(groups) else ()), span)]
    return groups


def fit_classifier(
    ratings: Ratings, config: ClassifierConfig, out: Path, device: str = "cpu"
) -> tuple[ClipClassifier, dict[str, Any]]:
    """Train a classifier on rated clips and write it to ``out``; an interrupted training is resumed.

    The videos are split into three parts, so that no video is in two: the network learns from the first, the threshold
    is chosen on the second, and the scores are of the third.

    Returns:
        The classifier, and for each part ``score_rule`` of its clips.

    Raises:
        ValueError: If there are too few ratings, a video cannot be read, or no threshold has the wanted precision.
    """
    require_device(device)
    examples, clip_frames = read_examples(ratings, config)
    shares = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
    sides = split_videos(examples.videos.tolist(), examples.is_good, shares, config.seed)
    parts = {name: examples.select(side) for name, side in zip(_PARTS, sides, strict=True)}
    training = _plan_training(config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = ResNet18(1, config.channels).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = out / f"run-{_identify(parts['training'], config)}"
    Phase(_draw(parts["training"], training.batch_size, config.seed, device), training, run).run(RatingLearner(network))
    network.eval().requires_grad_(False)
    trained = ClipClassifier(network, config, clip_frames, ratings.fps, threshold=0.5)
    scored = {name: _score(trained, part) for name, part in parts.items()}
    trained = trained._replace(threshold=choose_threshold(scored["validation"], config.precision))
    scores = {name: score_rule(each, trained.threshold) for name, each in scored.items()}
    rule = {"clip_frames": clip_frames, "fps": ratings.fps, "threshold": trained.threshold}
    save_described(network, out, {"format": _FORMAT, "config": to_dict(config), **rule, "scores": scores})
    return trained, scores


def _plan_training(config: ClassifierConfig) -> TrainConfig:
    small = SMALL_NETWORK_TRAINING
    warmup = min(small.optimizer.warmup_steps, config.train_steps // 10)
    optimizer = replace(small.optimizer, learning_rate=config.learning_rate, warmup_steps=warmup, weight_decay=0.05)
    sizes: dict[str, Any] = {"train_steps": config.train_steps, "batch_size": config.batch_size, "seed": config.seed}
    return replace(small, optimizer=optimizer, **sizes)


def _identify(examples: Examples, config: ClassifierConfig) -> str:
    """Return digits that name the run of a config on these clips; a run on other clips begins anew."""
    described = {**to_dict(config), "precision": None}
    digest = hashlib.sha256(repr((described, examples.videos.tolist(), examples.is_good.tolist())).encode())
    digest.update(examples.frames.tobytes())
    return digest.hexdigest()[:12]


def _draw(examples: Examples, batch_size: int, seed: int, device: str) -> Batches:
    """Return a source of batches (B, 1, 3, H, W) of single frames, half of them mirrored; odd rows are good."""
    places = np.flatnonzero(~examples.is_good), np.flatnonzero(examples.is_good)

    def draw(first: int, number: int) -> Iterator[Batch]:
        rows = np.arange(batch_size)
        for step in range(first, first + number):
            rng = np.random.default_rng([seed, step])
            clips = np.array([rng.choice(places[row % 2]) for row in rows])
            frames = examples.frames[clips, rng.integers(examples.frames.shape[1], size=batch_size)]
            is_mirrored = rng.random(batch_size) < 0.5
            frames = np.where(is_mirrored[:, None, None, None], frames[:, :, ::-1], frames)
            yield Batch(to_float(frames).to(device)[:, None], torch.from_numpy(rows))

    return draw


def _score(classifier: ClipClassifier, examples: Examples) -> Scored:
    videos = np.unique(examples.videos, return_inverse=True)[1]
    return Scored(classifier.rate(examples.frames), examples.is_good, videos)


@functools.lru_cache(maxsize=1)
def load_classifier(folder: Path, device: str = "cpu") -> ClipClassifier:
    """Load a classifier that ``fit_classifier`` wrote; ``ValueError`` if it is missing or damaged."""
    about = read_description(folder, "classifier", _FORMAT)
    try:
        config = from_dict(ClassifierConfig, about["config"])
        clip_frames, fps, threshold = about["clip_frames"], about["fps"], about["threshold"]
        require(is_integer(clip_frames, config.frames), "clip_frames", clip_frames, f"at least {config.frames}")
        require_rate("fps", fps)
        require(is_finite(threshold) and 0 <= threshold <= 1, "threshold", threshold, "in [0, 1]")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"classifier {str(folder)!r} has a damaged config: {error}") from error
    network = load_described(lambda: ResNet18(1, config.channels), folder, "classifier")
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ClipClassifier(network, config, clip_frames, fps, threshold)
