"""The clips that a world is scored on, and clips of other levels that baselines and ceilings are fitted on."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genie_gym.data.clips import ClipDataset
from genie_gym.data.sources import read_listed
from genie_gym.data.video_shards import read_index
from genie_gym.metrics.action_groups import ActionGroups, find_groups
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.control import FITTED_STARTS, ControlStarts, HeldKeys, hold_keys, starts_without_game
from genie_gym.metrics.held_out import CLIP_LENGTH, ClipPool, EvaluationClips, join_clips, record_pool
from genie_gym.metrics.outputs import Report

SCORED_FRAMES, TRAINING_FRAMES = 12_288, 16_384
"""Numbers of frames recorded for each mode and player, on the scored levels and on training levels."""


class EvaluationData(NamedTuple):
    """All data of one evaluation."""

    sets: dict[str, EvaluationClips]
    """Clips to score, by ``MODE/PLAYER``."""
    fitted: ClipPool
    """Clips of other levels that baselines and ceilings are fitted on."""
    control: ControlStarts
    """Starts from which actions are held; there is no game if ``config.data`` is used."""
    source: Mapping[str, object]
    """JSON-able description of where the data come from."""


def gather_data(
    config: EvaluateConfig, size: tuple[int, int], folder: Path, report: Report, fps: float | None = None
) -> EvaluationData:
    """Read ``config.data`` or, if it is None, record CoinRun into ``folder``.

    Raises:
        ValueError: If the data are missing, damaged, too few, not of the world's frame ``size`` (height, width), or
            converted at another frame rate than the world's ``fps``.
    """
    if config.data is None:
        return _record(config, size, folder, report)
    index, listed = read_index(config.data), read_listed(config.data, None) or ()
    found = {index.settings.fps} if index is not None else {each.fps for each in listed if each.fps is not None}
    if fps is not None and found - {fps}:
        rates = f"the world's {fps:g} frames a second, got clips of {', '.join(map(str, found))}"
        raise ValueError(f"data {str(config.data)!r} must have {rates}; convert the videos with --fps {fps:g}")
    return _read(config.data, config, size)


def _record(config: EvaluateConfig, size: tuple[int, int], folder: Path, report: Report) -> EvaluationData:
    if size != (64, 64):
        pixels = f"{size[0]} x {size[1]} pixels"
        raise ValueError(f"data must be given for a world of {pixels}: CoinRun is recorded at 64 x 64")
    players = {"sticky": "sticky"} | ({"player": config.player} if config.player else {})
    sets, training = {}, []
    each = _divide(config.clips, len(config.modes) * len(players))
    for mode, (name, spec) in itertools.product(config.modes, players.items()):
        report(f"recording {mode}, {name}", 0)
        out = folder / mode / name
        scored = record_pool(out / config.levels, spec, config.levels, mode, config.seed, SCORED_FRAMES)
        sets[f"{mode}/{name}"] = scored.draw(each, config.seed, with_others=True)
        training.append(out / "training")
        record_pool(training[-1], spec, "training", mode, config.seed, TRAINING_FRAMES)
    fitted = ClipDataset(training, clip_length=CLIP_LENGTH)
    report("each key held from many starts", 0)
    held: dict[str, HeldKeys] = {
        mode: hold_keys(mode, config.levels, config.starts, config.seed) for mode in config.modes
    }
    matched = min(config.starts, FITTED_STARTS)
    control = ControlStarts(held, [hold_keys(mode, "training", matched, config.seed) for mode in config.modes])
    source = {"game": "coinrun", "levels": config.levels, "modes": list(config.modes), "players": players}
    return EvaluationData(sets, ClipPool(fitted, np.arange(len(fitted))), control, source)


def _read(path: Path, config: EvaluateConfig, size: tuple[int, int]) -> EvaluationData:
    dataset = ClipDataset(path, clip_length=CLIP_LENGTH, height=size[0], width=size[1])
    others = sorted(dataset.frame_sizes - {size})
    if others and not config.resize:
        raise ValueError(
            f"data {str(path)!r} must have frames of {size[0]} x {size[1]} like the world, got "
            f"{' and '.join(f'{height} x {width}' for height, width in others)}; --resize crops and scales them"
        )
    groups, actions = _group(dataset), _find_actions(dataset)
    each = _divide(config.clips, len(groups))
    sets, fitted = {}, []
    for name, (scored, kept) in groups.items():
        if len(scored) < each or len(kept) < each:
            raise ValueError(
                f"data {str(path)!r} must hold {each} clips of {CLIP_LENGTH} frames of {name!r} in each half of its "
                f"levels, got {len(scored)} and {len(kept)}; lower --clips"
            )
        sets[name] = ClipPool(dataset, scored, actions).draw(each, config.seed, with_others=True)
        fitted.append(kept)
    pool = ClipPool(dataset, np.concatenate(fitted), actions)
    control = ControlStarts({"data": starts_without_game(join_clips(sets).videos, config.starts)}, [])
    return EvaluationData(sets, pool, control, {"data": str(path), "levels": "every second one of the data"})


def _group(dataset: ClipDataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return indices of clips to score and to fit on, by ``MODE/PLAYER``: odd and even levels, or halves of videos."""
    if dataset.holds_videos:
        half = len(dataset) // 2  # clips just before it are left out, so that no frame is in both halves
        return {"videos": (np.arange(half, len(dataset)), np.arange(max(0, half - CLIP_LENGTH)))}
    rows: dict[str, tuple[list[int], list[int]]] = {}
    for number in range(len(dataset)):
        name = f"{dataset.attributes(number).get('mode', 'data')}/{dataset.player(number)}"
        rows.setdefault(name, ([], []))[(dataset.level(number) + 1) % 2].append(number)
    return {name: (np.array(odd), np.array(even)) for name, (odd, even) in rows.items()}


def _find_actions(dataset: ClipDataset) -> ActionGroups | None:
    """Return the groupings of the data's actions; None for videos, vectors and environments that differ."""
    if dataset.holds_videos:
        return None
    names = ("game", "num_actions", "first_action", "action_names")
    kinds = {
        tuple(dataset.attributes(number).get(name) for name in names): dataset.attributes(number)
        for number in range(len(dataset))
    }
    return find_groups(next(iter(kinds.values()))) if len(kinds) == 1 else None


def _divide(clips: int, sets: int) -> int:
    """Return the number of clips for each of several sets."""
    if clips < 2 * sets:
        raise ValueError(f"clips must be at least two for each of the {sets} sets, got {clips}")
    return clips // sets
