"""Does the world do what its latent actions say?"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.metrics.image import psnr
from genie_gym.models.world_model import GenieWorldModel


class Played(NamedTuple):
    """Real clips, and the same rolled out from their first frames: (B, T, C, H, W) each."""

    real: Tensor
    inferred: Tensor
    """With the latent actions that the LAM reads off the real clip."""
    shuffled: Tensor
    """With another clip's."""
    random: Tensor
    """With uniform ones."""


@torch.no_grad()
def play_clips(
    world: GenieWorldModel,
    videos: Tensor,
    seed: int,
    prompt_frames: int = 1,
    chunk: int = 32,
    maskgit_steps: int | None = None,
) -> Played:
    """Roll clips out under inferred, shuffled and random latent actions, from the same seeds."""
    labels = torch.cat([world.label(part.to(world.device)).cpu() for part in videos.split(chunk)])[
        :, prompt_frames - 1 :
    ]
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.randint(world.config.num_latent_actions, labels.shape, generator=generator)
    rolled = []
    for latent_actions in (labels, labels.roll(1, dims=0), uniform):
        parts = zip(videos.split(chunk), latent_actions.split(chunk), strict=True)
        rolled.append(
            torch.cat(
                [
                    world.rollout(clips[:, :prompt_frames], actions, seed + chunk * index, maskgit_steps).cpu()
                    for index, (clips, actions) in enumerate(parts)
                ]
            )
        )
    return Played(videos, *rolled)


def delta_psnr(played: Played, frame: int) -> Tensor:
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
