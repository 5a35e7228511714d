"""Controllability: the influence of latent actions on a roll-out, as delta PSNR (Genie, sec. 3.1)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.metrics.image import psnr
from genie_gym.models.world_model import GenieWorldModel


class Rollouts(NamedTuple):
    """Real clips, and roll-outs that start with their first frames, (B, T, C, H, W) each."""

    real: Tensor
    inferred: Tensor
    """Roll-outs under the latent actions that the LAM infers from the real clip."""
    shuffled: Tensor
    """Roll-outs under the latent actions of another clip."""
    random: Tensor
    """Roll-outs under uniform random latent actions."""


_CHUNK = 32
"""Clips played in one batch."""
_Z = 1.96
"""Standard deviations of a 95 % interval."""
ROLLOUT_KINDS = Rollouts._fields[1:]


@torch.no_grad()
def play_clips(  # noqa: PLR0913  # what is played, and how
    world: GenieWorldModel,
    videos: Tensor,
    seed: int,
    prompt_frames: int = 1,
    maskgit_steps: int | None = None,
    kinds: Sequence[str] = ROLLOUT_KINDS,
    report: Callable[[float], object] = lambda share: None,
    labels: Tensor | None = None,
) -> Rollouts:
    """Roll clips out under inferred, shuffled and random latent actions, with the same sampling seeds.

    Args:
        world: World model in eval mode.
        videos: (B, T, C, H, W) real clips.
        seed: Seed of the roll-outs and of the random actions.
        prompt_frames: Number of real frames in each prompt.
        maskgit_steps: MaskGIT steps per frame; the config's if None.
        kinds: Names of the roll-outs to compute; the others are returned with no rows.
        report: Called with the share done, 0 to 1.
        labels: (B, T - 1) actions of the clips, which a world of real actions cannot infer; None infers them.
    """
    labels = (label_clips(world, videos) if labels is None else labels)[:, prompt_frames - 1 :]
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.randint(world.config.num_latent_actions, labels.shape, generator=generator)
    actions = {"inferred": labels, "shuffled": labels.roll(1, dims=0), "random": uniform}
    rolled: dict[str, list[Tensor]] = {kind: [] for kind in ROLLOUT_KINDS}
    for start in range(0, len(videos), _CHUNK):
        part = slice(start, start + _CHUNK)
        for kind in kinds:
            played = world.rollout(videos[part, :prompt_frames], actions[kind][part], seed + start, maskgit_steps)
            rolled[kind].append(played.cpu())
        report(min(1.0, part.stop / len(videos)))
    return Rollouts(videos, *(torch.cat(parts) if parts else videos[:0] for parts in rolled.values()))


@torch.no_grad()
def label_clips(world: GenieWorldModel, videos: Tensor) -> Tensor:
    """Infer the (B, T - 1) latent actions of (B, T, C, H, W) clips, batch by batch."""
    return torch.cat([world.label(part.to(world.device)).cpu() for part in videos.split(_CHUNK)])


def delta_psnr(rollouts: Rollouts, frame: int) -> Tensor:
    """Return (B,) dB: PSNR of ``frame`` under inferred minus PSNR under random latent actions (Genie, sec. 3.1)."""
    real = rollouts.real[:, frame]
    return psnr(real, rollouts.inferred[:, frame]) - psnr(real, rollouts.random[:, frame])


def bootstrap_interval(values: Tensor, seed: int, resamples: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of (M,) values."""
    generator = np.random.default_rng(seed)
    sample = values.double().numpy()
    means = sample[generator.integers(len(sample), size=(resamples, len(sample)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(share: float, number: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of ``number`` independent cases, which has a width at 0 and 1."""
    middle = (share + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
    half = _Z * math.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2)) / (1 + _Z**2 / number)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
