"""Does the world do what its latent actions say?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.metrics.image import psnr
from genie_gym.models.world_model import GenieWorldModel


class Rollouts(NamedTuple):
    """Real clips, and the same rolled out from their first frames: (B, T, C, H, W) each."""

    real: Tensor
    inferred: Tensor
    """With the latent actions that the LAM reads off the real clip."""
    shuffled: Tensor
    """With another clip's."""
    random: Tensor
    """With uniform ones."""

    def take(self, rows: Tensor) -> "Rollouts":
        """Some of them."""
        return Rollouts(*(each[rows] for each in self))


_CHUNK = 32
"""Clips played at once."""
ROLLOUT_KINDS = ("inferred", "shuffled", "random")


@torch.no_grad()
def play_clips(
    world: GenieWorldModel,
    videos: Tensor,
    seed: int,
    prompt_frames: int = 1,
    maskgit_steps: int | None = None,
    kinds: Sequence[str] = ROLLOUT_KINDS,
    report: Callable[[float], object] = lambda share: None,
) -> Rollouts:
    """Roll clips out under inferred, shuffled and random latent actions, from the same seeds.

    Args:
        world: In eval mode.
        videos: (B, T, C, H, W) real clips.
        seed: Of the roll-outs and of the random actions.
        prompt_frames: Real frames each starts from.
        maskgit_steps: Passes a frame; ``None`` for the config's.
        kinds: Those wanted; the others are left empty.
        report: Hears how much is done, 0 to 1.
    """
    labels = label_clips(world, videos)[:, prompt_frames - 1 :]
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.randint(world.config.num_latent_actions, labels.shape, generator=generator)
    actions = {"inferred": labels, "shuffled": labels.roll(1, dims=0), "random": uniform}
    starts = range(0, len(videos), _CHUNK)
    rolled: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    for number, start in enumerate(starts):
        part = slice(start, start + _CHUNK)
        for kind in kinds:
            prompts, chosen = videos[part, :prompt_frames], actions[kind][part]
            rolled[kind].append(world.rollout(prompts, chosen, seed + start, maskgit_steps).cpu())
        report((number + 1) / len(starts))
    none = videos[:0]
    return Rollouts(videos, *(torch.cat(rolled[kind]) if kind in rolled else none for kind in ROLLOUT_KINDS))


@torch.no_grad()
def label_clips(world: GenieWorldModel, videos: Tensor) -> Tensor:
    """(B, T, C, H, W) -> (B, T - 1) latent actions, some clips at a time."""
    return torch.cat([world.label(part.to(world.device)).cpu() for part in videos.split(_CHUNK)])


def delta_psnr(played: Rollouts, frame: int) -> Tensor:
    """(B,) dB by which frame ``frame`` is nearer under inferred than under random latent actions (sec. 3.1)."""
    real = played.real[:, frame]
    return psnr(real, played.inferred[:, frame]) - psnr(real, played.random[:, frame])


def bootstrap_interval(values: Tensor, seed: int, resamples: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean of (M,) values, by resampling them."""
    generator = np.random.default_rng(seed)
    sample = values.double().numpy()
    means = sample[generator.integers(len(sample), size=(resamples, len(sample)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
