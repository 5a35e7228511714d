"""Make the network behind ``fvd_procgen``: a classifier of Procgen clips by game, order of frames and actions.

    python -m experiments.release.video_features --out runs/video_features

The network trains on sticky-random play of training levels of all 16 games, easy and hard. Games and actions can be
predicted from little motion, so half of the clips are shuffled or frozen, and the network also predicts which. It is
scored on validation levels. Resumable.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from genie_gym.configs import Mode, TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import GAMES
from genie_gym.data.record import record
from genie_gym.metrics.fvd import frechet_distance
from genie_gym.metrics.held_out import CLIP_LENGTH, record_clips, restrict
from genie_gym.metrics.video_features import ORDERS, VideoFeatures
from genie_gym.models.base import LossOutput
from genie_gym.nn.weights import save_half
from genie_gym.players.specs import parse_shares
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.results.files import write_results
from genie_gym.training.loop import Phase, Trainee
from genie_gym.training.run import clips


class Recogniser(Trainee):
    """The network with its three losses; the targets of a clip are looked up in the dataset by its number."""

    def __init__(self, network: VideoFeatures, dataset: ClipDataset) -> None:
        super().__init__()
        self.network, self._dataset = network, dataset

    def loss(self, batch: Batch) -> LossOutput:
        """Return the summed cross-entropies of game, order and, in unchanged clips, action at every second frame."""
        numbers, (videos, orders) = batch.numbers.tolist(), reorder(batch.videos)
        games = torch.tensor([GAMES.index(str(self._dataset.attribute(number, "game"))) for number in numbers])
        taken = torch.stack([torch.from_numpy(self._dataset.private(number)[0][::2]) for number in numbers]).long()
        moments = self.network.frame_features(videos)
        action, as_played = self.network.action(moments), orders == 0
        tasks = {
            "game": (self.network.game(moments.mean(dim=1)), games),
            "order": (self.network.order(moments.mean(dim=1)), orders),
            "action": (action[as_played].flatten(0, 1), taken[as_played].flatten()),
        }
        metrics = {
            f"{name}_accuracy": (logits.argmax(dim=-1) == true).float().mean() for name, (logits, true) in tasks.items()
        }
        return LossOutput(torch.stack([F.cross_entropy(*task) for task in tasks.values()]).sum(), metrics)


def reorder(videos: Tensor) -> tuple[Tensor, Tensor]:
    """Leave the first half of (B, T, C, H, W) clips as played; shuffle or freeze each of the others.

    The second value is the index (B,) int64 of each clip's order in ``ORDERS``.
    """
    size, frames = videos.shape[:2]
    orders = torch.zeros(size, dtype=torch.int64)
    orders[size // 2 :] = torch.randint(1, len(ORDERS), (size - size // 2,))
    rows = torch.arange(frames).repeat(size, 1)
    for row, order in zip(rows, orders.tolist(), strict=True):
        if ORDERS[order] == "shuffled":
            span = int(2 ** torch.randint(2, 5, ()))
            row.copy_(row[(row // span * frames + torch.rand(frames) * (frames - 1)).argsort()])
        elif ORDERS[order] == "frozen":
            row.clamp_(max=int(torch.randint(frames - 4, ())))
    return videos[torch.arange(size)[:, None], rows], orders


@dataclass(frozen=True, kw_only=True)
class FeaturesRelease:
    """Record, train, score and save the network."""

    out: Path = Path("runs/video_features")
    """folder of recordings, training run and video_features.safetensors"""
    frames: int = 6144
    """number of frames of training levels of each game and mode"""
    train_steps: int = 1500
    """number of training batches"""
    batch_size: int = 32
    """number of clips a batch"""
    minutes: float | None = None
    """minutes after which this call stops; a second call resumes"""
    seed: int = 0
    """seed of recordings, weights and batches"""
    json: Path | None = None
    """JSON file of results to write"""

    def run(self) -> None:
        """Record what is missing and train until the last step or minute; after the last step, score."""
        training, validation = (self._record(levels) for levels in ("training", "validation"))
        config = replace(
            SMALL_NETWORK_TRAINING, train_steps=self.train_steps, batch_size=self.batch_size, seed=self.seed
        )
        torch.manual_seed(self.seed)
        network = VideoFeatures()
        done = Phase(clips(training, config), config, self.out, self.minutes).run(Recogniser(network, training))
        save_half(network, self.out / "video_features.safetensors")
        if done < self.train_steps:
            print(f"{done} of {self.train_steps} steps done; run again to resume")
            return
        torch.manual_seed(self.seed)
        scores = self._score(network.eval(), validation, config)
        print(scores)
        if self.json is not None:
            write_results(self.json, {"seed": self.seed, "train_steps": done, **scores})

    def _record(self, levels: str) -> ClipDataset:
        frames, folders = self.frames if levels == "training" else max(self.frames // 8, 1024), []
        modes: tuple[Mode, ...] = ("easy", "hard")
        for game, mode in itertools.product(GAMES, modes):
            config = restrict(RecordConfig(game=game, mode=mode, frames=frames, seed=self.seed), levels)
            folders.append(self.out / levels / f"{game}-{mode}")
            record(config, parse_shares(["sticky"]), folders[-1], progress=False)
        return ClipDataset(folders, clip_length=CLIP_LENGTH)

    @torch.no_grad()
    def _score(self, network: VideoFeatures, validation: ClipDataset, config: TrainConfig) -> dict[str, Any]:
        recogniser = Recogniser(network, validation)
        scores = [recogniser.loss(batch).metrics for batch in clips(validation, config)(0, 32)]
        means: dict[str, Any] = {name: float(torch.stack([each[name] for each in scores]).mean()) for name in scores[0]}
        return means | {"distances": measure_distortions(network, self.seed)}


def measure_distortions(network: VideoFeatures, seed: int, number: int = 96) -> dict[str, Any]:
    """Return the distances of CoinRun clips to distorted copies, by kind and size, and to other clips of play."""
    videos, others = (record_clips("sticky", "validation", "hard", number, seed + more).videos for more in (0, 1))
    real = network(videos)
    distances: dict[str, Any] = {"clips": number, "other_clips": frechet_distance(real, network(others))}
    for name, (distort, sizes) in DISTORTIONS.items():
        distances[name] = {str(size): frechet_distance(real, network(distort(videos, size))) for size in sizes}
    return distances


def add_noise(videos: Tensor, size: float) -> Tensor:
    """Add Gaussian noise of standard deviation ``size``, the same in every call, to (B, T, C, H, W) videos."""
    noise = torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    return (videos + size * noise).clamp(0, 1)


def blur(videos: Tensor, size: float) -> Tensor:
    """Replace each pixel by the mean of the square around it, whose side is ``size`` pixels, an odd number."""
    side = int(size)
    padded = F.pad(videos.flatten(0, 1), (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, 1).unflatten(0, videos.shape[:2])


def shuffle(videos: Tensor, share: float) -> Tensor:
    """Permute a ``share`` of the frames, in the same way in all clips and calls."""
    order = torch.arange(videos.shape[1])
    chosen = torch.randperm(len(order), generator=torch.Generator().manual_seed(0))[: round(share * len(order))]
    order[chosen.sort().values] = order[chosen]
    return videos[:, order]


def freeze(videos: Tensor, frames: float) -> Tensor:
    """Replace the last ``frames`` frames by the one before them."""
    return videos[:, torch.arange(videos.shape[1]).clamp(max=videos.shape[1] - 1 - int(frames))]


DISTORTIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "noise": (add_noise, (0.03, 0.1, 0.3)),
    "blur": (blur, (3, 5, 9)),
    "shuffling": (shuffle, (0.25, 0.5, 1.0)),
    "freezing": (freeze, (5, 10, 15)),
}
"""Distortions that a video distance should notice, each with growing sizes."""


if __name__ == "__main__":
    tyro.cli(FeaturesRelease).run()
