"""All metrics of a world on real clips, with their baselines, as one JSON-able dictionary."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genie_gym.data.held_out import Play, Pool, join
from genie_gym.metrics.baselines import cluster_patches, fit_patches
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.controllability import Played, bootstrap_interval, delta_psnr, label_clips, play_clips
from genie_gym.metrics.fvd import Features, frechet_distance, load_i3d, procgen_features
from genie_gym.metrics.image import moving_psnr, pooled_psnr, psnr, ssim
from genie_gym.metrics.inverse_model import say_actions, train_inverse_model
from genie_gym.metrics.latent_actions import fit_maps, score_labels, score_use
from genie_gym.metrics.motion import play_each_action, score_consistency
from genie_gym.metrics.passes import score_passes
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import perplexity

ROLLOUT_FRAMES = (1, 2, 4, 8, 10, 15)
DELTA_FRAMES = (1, 4, 8)
CLUSTERED_CLIPS, MAPPED_CLIPS = 128, 512
"""Separate clips for k-means, and for the maps from latent to real actions."""
HELD_FRAMES = 4
"""For which a latent action is held when its motion is measured."""
PASSES_FRAMES = 9
"""Of the clips on which numbers of passes are compared."""
HISTORY = 3
"""Frames up to t for the inverse model, where the latent action model has no such number."""

Report = Callable[[str, float], object]
"""Hears of each stage, and how much of it is done, 0 to 1."""


class Evaluated(NamedTuple):
    """Scores, and what a picture is drawn from."""

    scores: dict[str, Any]
    seen: "Seen"
    played: Played
    held: Tensor
    """(A, M, 1 + frames, C, H, W) each latent action held from M starts."""


class Seen(NamedTuple):
    """What the models make of real clips."""

    tokens: Tensor
    """(B, T, N)."""
    rebuilt: Tensor
    """(B, T, C, H, W) from the tokens."""
    labels: Tensor
    """(B, T - 1) latent actions."""
    clustered: Tensor
    """(B, T, C, H, W) by k-means over patches."""

    def take(self, rows: slice) -> "Seen":
        """Of some clips."""
        return Seen(*(each[rows] for each in self))


def evaluate(
    world: GenieWorldModel,
    sets: Mapping[str, Play],
    fitted: Pool,
    config: EvaluateConfig,
    report: Report = lambda stage, share: None,
) -> Evaluated:
    """Score a world on named sets of clips, over all of them and apart.

    Args:
        world: In eval mode.
        sets: (B, 16, C, H, W) real clips by name.
        fitted: Clips of *other* levels, for k-means, the maps from latent to real actions, and their ceiling.
        config: How much of everything, and the seed.
        report: Hears of progress.

    Returns:
        ``scores``: ``clips``, ``tokenizer``, ``lam``, ``rollout`` (rows of ``t``), ``delta_psnr`` (rows of ``t``, mean
        and 95 % interval), ``fvd_procgen`` with ``fvd_beside``, ``fvd`` where I3D is given; the same again under
        ``sets`` for each name; ``consistency`` and ``passes`` over all. ``speed`` varies from run to run, the rest
        follows from the seed.

    Raises:
        ValueError: If there are too few clips to fit on, or no such I3D.
    """
    i3d = None if config.i3d is None else load_i3d(config.i3d, config.device)
    whole = join(sets)
    drawn = fitted.draw(min(MAPPED_CLIPS, len(fitted.numbers)), config.seed)
    seen = see_clips(world, whole.videos, drawn.videos[:CLUSTERED_CLIPS], config.seed, report)
    said, maps = read_actions(world, whole, fitted, drawn, config, report)
    played = play_clips(
        world, whole.videos, config.seed, report=lambda share: report("rolling out clips under latent actions", share)
    )
    features = {"procgen": procgen_features} | ({} if i3d is None else {"i3d": i3d})
    looks = {name: _look(extract, seen, played, report) for name, extract in features.items()}

    def score(rows: slice) -> dict[str, Any]:
        part = Played(*(each[rows] for each in played))
        labels, actions = seen.labels[rows], None if whole.real_actions is None else whole.real_actions[rows]
        lam = score_use(labels, world.config.num_latent_actions)
        if actions is not None and said is not None:
            lam |= score_labels(labels, actions, maps, {name: kinds[rows] for name, kinds in said.items()})
        return {
            "clips": len(part.real),
            "tokenizer": score_tokenizer(seen.take(rows), part.real, world.config.tokenizer.quantizer.codes),
            "lam": lam,
            "rollout": [score_frame(part, frame) for frame in ROLLOUT_FRAMES],
            "delta_psnr": [score_control(part, frame, config.seed) for frame in DELTA_FRAMES],
            **_score_looks({name: {k: v[rows] for k, v in look.items()} for name, look in looks.items()}),
        }

    apart, first = {}, 0
    for name, play in sets.items():
        apart[name] = score(slice(first, first + len(play.videos)))
        first += len(play.videos)
    held = _hold_actions(world, whole.videos, config, report)
    rows, speed = _compare_passes(world, whole.videos, config, report)
    totals = {"consistency": score_consistency(held), "passes": rows, "passes_clips": config.passes_clips}
    scores = {"seed": config.seed, **score(slice(None)), **totals, "sets": apart, "speed": speed}
    return Evaluated(scores, seen, played, held)


@torch.no_grad()
def see_clips(
    world: GenieWorldModel, videos: Tensor, separate: Tensor, seed: int, report: Report, chunk: int = 32
) -> Seen:
    """Tokens, what they rebuild, labels, and what k-means on ``separate`` clips rebuilds of (B, T, C, H, W) clips."""
    config = world.config.tokenizer
    report("k-means over patches", 0)
    means = fit_patches(separate, config.patch_size, config.quantizer.codes, seed)
    parts = []
    for number, clips in enumerate(videos.split(chunk)):
        report("tokens and latent actions of clips", number * chunk / len(videos))
        moved = clips.to(world.device)
        tokens = world.tokenizer.encode(moved)
        seen = (tokens, world.tokenizer.decode(tokens), world.label(moved))
        parts.append((*(part.cpu() for part in seen), cluster_patches(clips, means, config.patch_size)))
    return Seen(*(torch.cat(column) for column in zip(*parts, strict=True)))


def read_actions(
    world: GenieWorldModel, whole: Play, fitted: Pool, drawn: Play, config: EvaluateConfig, report: Report
) -> tuple[dict[str, Tensor] | None, dict[str, Tensor]]:
    """What a supervised model says of the clips' actions, and maps from latent to real ones; nothing for videos."""
    if whole.real_actions is None or drawn.real_actions is None:
        return None, {}
    report("maps from latent to real actions", 0)
    maps = fit_maps(label_clips(world, drawn.videos), drawn.real_actions, world.config.num_latent_actions)
    part = world.config.latent_action_model
    history = part.history if part.backbone == "conv" else HISTORY
    size = (world.config.height, world.config.width)
    model = train_inverse_model(
        fitted,
        history,
        size,
        config.inverse_steps,
        config.seed,
        lambda share: report("training a supervised inverse model", share),
    )
    return say_actions(model, whole.videos), maps


def score_tokenizer(seen: Seen, videos: Tensor, codes: int) -> dict[str, float]:
    """PSNR in dB (pooled, of moving pixels, mean over frames) and SSIM beside k-means', and the codes in use."""
    return {
        "psnr": pooled_psnr(seen.rebuilt, videos),
        "frame_psnr": float(psnr(seen.rebuilt, videos).mean()),
        "moving_psnr": moving_psnr(videos, seen.rebuilt),
        "ssim": float(ssim(seen.rebuilt, videos).mean()),
        "kmeans_psnr": pooled_psnr(seen.clustered, videos),
        "kmeans_moving_psnr": moving_psnr(videos, seen.clustered),
        "kmeans_ssim": float(ssim(seen.clustered, videos).mean()),
        "codes_used": seen.tokens.unique().numel(),
        "codes": codes,
        "perplexity": float(perplexity(seen.tokens, codes)),
    }


def score_frame(played: Played, frame: int) -> dict[str, float]:
    """PSNR in dB, pooled over clips, and SSIM at ``frame``, of the world and of what it must beat."""
    real = played.real[:, frame]
    rivals = {
        "": played.inferred[:, frame],
        "copy_last_": played.real[:, 0],
        "shuffled_": played.shuffled[:, frame],
        "random_": played.random[:, frame],
    }
    row: dict[str, float] = {"t": frame}
    row |= {f"{name}psnr": pooled_psnr(videos, real) for name, videos in rivals.items()}
    row |= {f"{name}ssim": float(ssim(videos, real).mean()) for name, videos in rivals.items()}
    means = {f"{name}clip_psnr": float(psnr(rivals[name], real).mean()) for name in ("", "copy_last_")}
    return row | means


def score_control(played: Played, frame: int, seed: int) -> dict[str, Any]:
    """Delta PSNR at ``frame`` with its 95 % bootstrap interval over clips."""
    values = delta_psnr(played, frame)
    return {"t": frame, "delta_psnr": float(values.mean()), "interval": bootstrap_interval(values, seed)}


def _look(extract: Features, seen: Seen, played: Played, report: Report) -> dict[str, Tensor]:
    """Features (B, D) of real clips and of what is compared with them."""
    frozen = played.real[:, :1].expand_as(played.real)
    videos = {
        "real": played.real,
        "rollout": played.inferred,
        "rebuilt": seen.rebuilt,
        "copy_last": frozen,
        "random_actions": played.random,
    }
    looks = {}
    for number, (name, each) in enumerate(videos.items()):
        report("features for video distances", number / len(videos))
        looks[name] = extract(each)
    return looks


def _score_looks(looks: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name, look in looks.items():
        key = "fvd_procgen" if name == "procgen" else "fvd"
        far = {other: frechet_distance(look["real"], each) for other, each in look.items() if other != "real"}
        scores[key] = far.pop("rollout")
        scores[f"{key}_beside"] = far
    return scores


def _hold_actions(world: GenieWorldModel, videos: Tensor, config: EvaluateConfig, report: Report) -> Tensor:
    report("each latent action held from many starts", 0)
    starts = _spread(len(videos), config.start_frames)
    return play_each_action(world, videos[starts, :1], HELD_FRAMES, config.seed)


def _compare_passes(
    world: GenieWorldModel, videos: Tensor, config: EvaluateConfig, report: Report
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    some = videos[_spread(len(videos), config.passes_clips), :PASSES_FRAMES]
    return score_passes(
        world, some, config.maskgit_steps, config.seed, lambda share: report("numbers of MaskGIT passes", share)
    )


def _spread(of: int, wanted: int) -> Tensor:
    """Up to ``wanted`` row numbers below ``of``, evenly apart."""
    return torch.linspace(0, of - 1, min(of, wanted)).round().long()
