"""Keys pressed in the same state of CoinRun: whether their labels are told apart, and equal keys labelled alike."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import Games, open_games
from genie_gym.metrics.action_groups import PROCGEN_GROUPS, ActionGroups
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.controllability import bootstrap_interval, label_clips
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.inverse_model import predict_last_actions
from genie_gym.metrics.motion import estimate_shifts
from genie_gym.metrics.outputs import ActionReference, Report
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import parse_share


class Pair(NamedTuple):
    """Two keys that are compared in the same states."""

    keys: tuple[int, int]
    """Real actions of CoinRun."""
    group: str
    """Name of the grouping of Procgen's actions in which the two keys are of different kinds."""
    axis: int
    """Axis along which the keys move the player differently: 0 for rows, 1 for columns."""


PAIRS = {
    "jump running": Pair((7, 8), "up", 0),
    "jump standing": Pair((4, 5), "up", 0),
    "left or right": Pair((1, 7), "direction", 1),
    "run or stop": Pair((7, 4), "direction", 1),
}
_KEYS = tuple(sorted({key for pair in PAIRS.values() for key in pair.keys}))
"""Keys that are pressed in each state."""
_STEPS, _EVERY = 96, 6
"""Steps of play, and steps from one pair of neighbouring states to the next."""
_STARTS_A_GAME = 4
"""Starts of a mode, by which the size of an evaluation is set, for each game played here."""


class Moment(NamedTuple):
    """Two states of M games, the second of which follows the first in play, and what each key leads to."""

    past: np.ndarray
    """(2, M, P, 64, 64, 3) uint8: the frames up to each state."""
    next_frames: np.ndarray
    """(2, M, keys, 64, 64, 3) uint8: the frame that each key leads to."""


def play_moments(mode: str, levels: str, games: int, seed: int, past: int, player: str = "expert") -> Iterator[Moment]:
    """Play CoinRun and yield moments, without games whose level ends within one.

    Args:
        mode: Procgen distribution mode.
        levels: ``test``, ``validation`` or ``training``.
        games: Number of games played at once; each gives 16 moments at most.
        seed: Seed of games and play.
        past: Number of frames up to each state, P.
        player: Spec of the player, as for ``genie-gym record``.

    Raises:
        ValueError: If there are no such levels or no such player.
        MissingExtraError: If procgen is not installed.
    """
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by RecordConfig
    share, open_twin = parse_share(player), functools.partial(open_games, config, seed=seed, num_envs=games)
    choose, frames, starts, tried = share.player(seed), [], [], []
    # Three copies of the same games: the frames to label, those that the player sees, and games to press keys in.
    with (
        contextlib.closing(open_twin()) as played,
        contextlib.closing(open_twin(paint_velocity=share.sees_velocity)) as shown,
        contextlib.closing(open_twin()) as twin,
    ):
        for step in range(past + _STEPS):
            now = played.observe()
            frames.append(now.frames.copy())
            starts.append(now.episode_starts.copy())
            place = (step - past) % _EVERY  # 0 for the first state of a moment, 1 for the second
            if step >= past and place < 2:
                tried.append(_press_keys(twin, played.save()))
            if step >= past and place == 1:
                goes_on = ~np.any(starts[-past:], axis=0) & tried[0][1] & tried[1][1]
                before = np.stack([np.stack(frames[-past - 1 : -1], axis=1), np.stack(frames[-past:], axis=1)])
                yield Moment(before[:, goes_on], np.stack([after for after, _ in tried])[:, goes_on])
                tried = []
            frames, starts = frames[-past - 1 :], starts[-past - 1 :]
            real_actions = choose(shown.observe().frames)
            for each in (played, shown):
                each.act(real_actions)


def separate_keys(
    world: GenieWorldModel, actions: ActionReference, config: EvaluateConfig, report: Report
) -> dict[str, Any]:
    """Play CoinRun and return ``score_separability`` of a world's labels for each mode of the config."""
    supervised = actions.supervised.model
    past = max(world.latent_action_model.frames_seen, supervised.history)
    games = max(1, config.starts // _STARTS_A_GAME)
    scores: dict[str, Any] = {}
    for number, mode in enumerate(config.modes):
        report("labels of keys pressed in the same states", number / len(config.modes))
        scores[mode] = score_separability(
            play_moments(mode, config.levels, games, config.seed, past),
            functools.partial(label_clips, world),
            actions.maps,
            functools.partial(predict_last_actions, supervised),
            config.seed,
        )
    return scores


def score_separability(
    moments: Iterator[Moment],
    label: Callable[[Tensor], Tensor],
    maps: dict[str, Tensor],
    predict: Callable[[Tensor], dict[str, Tensor]],
    seed: int,
) -> dict[str, Any]:
    """Measure whether labels tell keys apart that were pressed in the same state, and label equal keys alike.

    A pair of keys shows in a state if the two next frames are shifted against each other by a pixel or more along the
    pair's axis, so that the player is seen to move differently.

    Args:
        moments: Moments from ``play_moments``.
        label: Function from (B, T, C, H, W) videos to (B, T - 1) latent actions.
        maps: (A,) map from latent actions to kinds of keys in each grouping, fitted on other levels.
        predict: Function from videos to the (B,) kinds of the last keys in each grouping, learned by supervision.
        seed: Seed of the bootstrap intervals.

    Returns:
        ``states``, their number; ``pairs``, for each of ``PAIRS``: ``shows``, the share of states in which the pair
        shows, and of these, ``told_apart``, the share in which the labels of *both* keys are mapped to the right kinds,
        with its 95 % ``interval``, ``ceiling`` for the supervised model and ``random`` for random labels of the same
        frequencies (all None if the pair never shows); ``equal``, the share of equal keys in neighbouring states that
        get equal labels, and ``equal_random`` for such random labels.
    """
    labelled = [_label(moment, label, predict) for moment in moments if moment.past.shape[1]]
    if not labelled:
        raise ValueError("games must be more: a level ended within every moment of each")
    latents, visible = (torch.cat(parts, dim=1) for parts in list(zip(*labelled, strict=True))[:2])
    kinds = {name: torch.cat([each.kinds[name] for each in labelled], dim=1) for name in maps}
    shares = torch.bincount(latents.flatten(), minlength=len(maps["up"])).double() / latents.numel()
    pairs = {}
    for place, (name, pair) in enumerate(PAIRS.items()):
        shown = visible[..., place]
        pairs[name] = _score_pair(pair, latents[shown], kinds[pair.group][shown], maps[pair.group], shares, seed)
        pairs[name]["shows"] = float(shown.double().mean())
    return {
        "states": visible[..., 0].numel(),
        "pairs": pairs,
        "equal": float((latents[0] == latents[1]).double().mean()),
        "equal_random": float(shares.square().sum()),
    }


class _Labelled(NamedTuple):
    """A moment of M games with labels of what the keys lead to."""

    latents: Tensor
    """(2, M, keys) latent actions."""
    visible: Tensor
    """(2, M, pairs) bool: where the pairs of keys show."""
    kinds: dict[str, Tensor]
    """(2, M, keys) kinds of keys by the supervised model, in each grouping."""


def score_persistence(
    labels: Tensor, real_actions: Tensor, groups: ActionGroups = PROCGEN_GROUPS
) -> dict[str, float | None]:
    """Measure how often a label stays the same from one transition to the next, by whether the key does.

    Args:
        labels: (B, T - 1) latent actions of clips.
        real_actions: (B, T - 1) true actions of the same clips.
        groups: Groupings of the game's actions, of which the finest one tells keys apart.

    Returns:
        ``key_stays`` and ``key_changes``, the share of neighbouring transitions with equal labels among those with
        equal and with different keys, None if there are none; ``chance``, the share for random labels of the same
        frequencies.
    """
    keys = groups.group(real_actions)[groups.finest]
    same_label, same_key = labels[:, 1:] == labels[:, :-1], keys[:, 1:] == keys[:, :-1]
    shares = torch.bincount(labels.flatten()).double() / labels.numel()
    parts = {"key_stays": same_label[same_key], "key_changes": same_label[~same_key]}
    scores = {name: float(part.double().mean()) if len(part) else None for name, part in parts.items()}
    return scores | {"chance": float(shares.square().sum())}


def _press_keys(games: Games, states: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the (B, keys, ...) frames that keys lead to from states, and (B,) bool, False where any ends a level."""
    after, goes_on = [], np.ones(len(states), dtype=np.bool_)
    for key in _KEYS:
        games.restore(states)
        games.act(np.full(len(states), key, dtype=np.int32))
        then = games.observe()
        after.append(then.frames.copy())
        goes_on &= ~then.episode_starts
    return np.stack(after, axis=1), goes_on


def _label(
    moment: Moment, label: Callable[[Tensor], Tensor], predict: Callable[[Tensor], dict[str, Tensor]]
) -> _Labelled:
    latents, kinds, lasts = [], [], []
    for key in range(len(_KEYS)):
        videos = to_float(np.concatenate([moment.past, moment.next_frames[:, :, [key]]], axis=2)).flatten(0, 1)
        latents.append(label(videos)[:, -1])
        kinds.append(predict(videos))
        lasts.append(videos[:, -1])
    shape = moment.next_frames.shape[:2]
    return _Labelled(
        torch.stack(latents, dim=1).unflatten(0, shape),
        torch.stack([_shows(pair, lasts) for pair in PAIRS.values()], dim=1).unflatten(0, shape),
        {name: torch.stack([each[name] for each in kinds], dim=1).unflatten(0, shape) for name in kinds[0]},
    )


def _shows(pair: Pair, lasts: list[Tensor]) -> Tensor:
    """Return (B,) bool: where the frames that two keys lead to are shifted against each other along the pair's axis."""
    one, other = (lasts[_KEYS.index(key)] for key in pair.keys)
    return estimate_shifts(one, other)[:, pair.axis] != 0


def _score_pair(
    pair: Pair, latents: Tensor, kinds: Tensor, chosen: Tensor, shares: Tensor, seed: int
) -> dict[str, Any]:
    """Score one pair on the (N, keys) latent actions and supervised kinds of the states in which it shows."""
    if not len(latents):
        return dict.fromkeys(("told_apart", "interval", "ceiling", "random"))
    places = [_KEYS.index(key) for key in pair.keys]
    wanted = PROCGEN_GROUPS.group(torch.tensor(pair.keys))[pair.group]
    told = (chosen[latents[:, places]] == wanted).all(dim=1).double()
    random = torch.stack([shares[chosen == kind].sum() for kind in wanted]).prod()
    return {
        "told_apart": float(told.mean()),
        "interval": bootstrap_interval(told, seed),
        "ceiling": float((kinds[:, places] == wanted).all(dim=1).double().mean()),
        "random": float(random),
    }
