"""Scores of a world that is played from pictures: what it keeps of them, and whether they obey its actions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genie_gym.metrics.controllability import wilson_interval
from genie_gym.metrics.image import psnr
from genie_gym.metrics.motion import estimate_shifts, explain_motion
from genie_gym.models.world_model import GenieWorldModel

_OBEYED = 2
"""Pixels the right way from which on a picture obeys."""
_REACH = 5
"""Pixels by which the sum of the estimated motions is corrected at most, since each is rounded to a pixel."""
_LEAST_SIDE = 16
"""Fewest rows and columns in view at which a picture is compared."""
_RESAMPLES, _FEWEST = 1000, 4
"""Bootstrap resamples, and the fewest pictures of which they are drawn."""
_CHUNK = 64
"""Frames that are encoded at once."""


def score_kept(world: GenieWorldModel, played: Tensor, tracks: Tensor, frames: Sequence[int]) -> list[dict[str, Any]]:
    """Score what is kept of M rebuilt prompts after some ``frames``.

    Args:
        world: World model in eval mode.
        played: (A, M, T, C, H, W) videos by ``play_each_action``, which begin with the rebuilt prompts.
        tracks: (A, M, T, 2) pixels right and up since the prompt, by ``track_player``.
        frames: Numbers of frames since the prompt.

    Returns:
        For each of ``frames``, means over pictures and actions: ``psnr``, in dB, between the frame and the prompt moved
        by as much as the frame has moved, over the pixels that are in both; ``other_psnr``, which compares with the
        next prompt instead; ``in_view``, the share of the prompt's pixels that are in both; ``tokens``, the share of
        the frame's tokens that the encoded rebuilt prompt has somewhere too; ``other_tokens``, the share for two
        different rebuilt prompts.
    """
    prompts = played[:, :, 0]
    codes = _encode(world, prompts[0])
    has_code = torch.zeros(len(codes), world.config.tokenizer.quantizer.codes, dtype=torch.bool).scatter(1, codes, True)
    between = has_code[:, codes].double().mean(dim=-1)  # (M, M): share of the tokens of each column in each row
    pictures = len(codes)
    other_tokens = float((between.sum() - between.trace()) / (pictures * (pictures - 1)))
    rows = []
    for frame in frames:
        shown = played[:, :, frame]
        own, views = _compare_in_view(prompts, shown, tracks[:, :, frame])
        others, _ = _compare_in_view(prompts.roll(1, dims=1), shown, tracks[:, :, frame])
        tokens = _encode(world, shown.flatten(0, 1)).view(*shown.shape[:2], -1)
        shared = has_code.expand(len(shown), -1, -1).gather(2, tokens).double().mean()
        row = {"psnr": own.nanmean(), "other_psnr": others.nanmean(), "in_view": views.mean(), "tokens": shared}
        rows.append({"frame": frame, **{name: float(value) for name, value in row.items()}})
    return [{**row, "other_tokens": other_tokens} for row in rows]


def explain_with_intervals(went: Tensor, seed: int) -> dict[str, Any]:
    """Return the shares of ``explain_motion`` with 95 % bootstrap intervals over pictures, None for few pictures.

    Args:
        went: (A, M, 2) pixels right and up, by action and picture.
        seed: Seed of the bootstrap.
    """
    pictures = went.shape[1]
    draws = torch.randint(pictures, (_RESAMPLES, pictures), generator=torch.Generator().manual_seed(seed))
    resampled = explain_motion(went[:, draws])
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    return {
        name: {
            "share": float(share),
            "interval": resampled[name].quantile(ends).tolist() if pictures >= _FEWEST else None,
        }
        for name, share in explain_motion(went).items()
    }


def score_obedience(went: Tensor, left: int, right: int) -> dict[str, Any]:
    """Score whether pictures are moved the way that the names of two actions say.

    Args:
        went: (A, M) pixels to the right, by action and picture.
        left: Action that should move to the left.
        right: Action that should move to the right.

    Returns:
        ``apart``, the share of pictures that ``left`` moves to the left of where ``right`` moves them by 2
        pixels, and ``left`` and ``right``, the shares that each moves its way by as many: each with its 95 % Wilson
        ``interval`` and ``chance``, the share for two random different actions in their place.
    """
    gaps = went[None] - went[:, None]  # (left, right, M)
    is_pair = ~torch.eye(len(went), dtype=torch.bool)
    obeys = {
        "apart": (gaps[left, right] >= _OBEYED, gaps[is_pair] >= _OBEYED),
        "left": (went[left] <= -_OBEYED, went <= -_OBEYED),
        "right": (went[right] >= _OBEYED, went >= _OBEYED),
    }
    scores = {}
    for name, (own, random) in obeys.items():
        share = float(own.double().mean())
        interval = wilson_interval(share, len(own))
        scores[name] = {"share": share, "interval": interval, "chance": float(random.double().mean())}
    return scores


def _compare_in_view(prompts: Tensor, shown: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return (A, M) PSNR of prompts and frames where they overlap, NaN if they hardly do, and the overlaps' shares."""
    scores, shares = torch.full(moved.shape[:2], torch.nan), torch.zeros(moved.shape[:2])
    height, width = shown.shape[-2:]
    for place in torch.cartesian_prod(*map(torch.arange, moved.shape[:2])).tolist():
        before, after = prompts[tuple(place)], shown[tuple(place)]
        right, up = moved[tuple(place)].long().tolist()
        pair = _overlap(before, after, up, -right)
        if min(pair[0].shape[-2:]) < _LEAST_SIDE:
            continue
        down, across = estimate_shifts(pair[0][None], pair[1][None], _REACH)[0].tolist()
        pair = _overlap(before, after, up + down, across - right)
        scores[tuple(place)] = psnr(*pair)
        shares[tuple(place)] = pair[0].shape[-2] * pair[0].shape[-1] / (height * width)
    return scores, shares


def _overlap(before: Tensor, after: Tensor, down: int, across: int) -> tuple[Tensor, Tensor]:
    """Return the parts of two (C, H, W) images that show equal things if the second has moved by that many pixels."""
    height, width = before.shape[-2:]
    rows, columns = max(0, height - abs(down)), max(0, width - abs(across))
    old = before[..., max(0, -down) :, max(0, -across) :][..., :rows, :columns]
    new = after[..., max(0, down) :, max(0, across) :][..., :rows, :columns]
    return old, new


@torch.no_grad()
def _encode(world: GenieWorldModel, frames: Tensor) -> Tensor:
    """Return the (B, N) tokens of (B, C, H, W) frames, each encoded alone."""
    parts = (part[:, None].to(world.device) for part in frames.split(_CHUNK))
    return torch.cat([world.tokenizer.encode(part)[:, 0].cpu() for part in parts])
