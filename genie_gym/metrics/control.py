"""Control: whether latent actions move the player as the keys of the game do, from the same states.

Every latent action is held from starts on the ground, and so is every key in the game itself. The camera follows the
player, so the way that it goes is read from the frames, the same way in the world and in the game. Where a key ends
the game, the player is compared up to the last frame before.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.configs import RecordConfig
from genie_gym.data.frames import to_float, to_uint8
from genie_gym.data.procgen import open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import explain_motion, play_each_action, track_player
from genie_gym.metrics.outputs import Report
from genie_gym.metrics.starts import START_FRAMES, draw_starts, hold_key
from genie_gym.models.world_model import GenieWorldModel

CONTROL_STEPS = 16
"""Number of steps for which an action or a key is held."""
GAME_KEYS = {"left": 1, "stay": 4, "jump": 5, "right": 7, "right jump": 8}
"""Keys of CoinRun that are held -> their real actions."""
FITTED_STARTS = 32
"""Number of starts of each mode, on training levels, on which keys and actions are matched."""
CONTROL_NAMES = {
    "x_explained": "motion along x explained by the action",
    "y_explained": "motion along y explained by the action",
    "agreement_x": "R squared with the game along x",
    "agreement_y": "R squared with the game along y",
    "obedience_left": "starts that obey left",
    "obedience_right": "starts that obey right",
    "obedience_jump": "starts that obey jump",
}
"""Readable names of the scores of ``measure_control``."""
CONTROLLED = ("world", "game", "shuffled")
"""What is scored: the world, the game's keys, and the world's actions under labels shuffled at every start."""
_ORDERS = {"left": (CONTROL_STEPS, (-1.0, 0.0)), "right": (CONTROL_STEPS, (1.0, 0.0)), "jump": (6, (0.0, 1.0))}
"""Key -> the step at which it should have been obeyed, and the way (right, up)."""
_OBEYED = 3
"""Pixels the right way from which on an order counts as obeyed."""
_AT_REST = 1
"""Pixels by which the frames of a start may move if its player stands still."""
_CHUNK, _RESAMPLES = 32, 1000
"""Starts from which actions are held at once; bootstrap resamples."""


class HeldKeys(NamedTuple):
    """M starts, and where the player goes from them in the game while each of K ``GAME_KEYS`` is held."""

    frames: np.ndarray
    """(M, P, H, W, 3) uint8 frames up to each start."""
    tracks: Tensor
    """(K, M, 1 + ``CONTROL_STEPS``, 2) float64 pixels right and up; K is 0 if there is no game."""
    lasts: Tensor
    """(K, M) int64: the last step before the game ended, at most ``CONTROL_STEPS``."""


class ControlStarts(NamedTuple):
    """All starts of one evaluation."""

    scored: Mapping[str, HeldKeys]
    """By Procgen distribution mode, or all together as ``data`` if there is no game."""
    fitted: Sequence[HeldKeys]
    """Starts on training levels, by which keys and actions are matched; none if there is no game."""


class Matches(NamedTuple):
    """What the latent actions stand for, found on training levels."""

    keys: Tensor
    """(A,) int64 index in ``GAME_KEYS`` of the key whose tracks are most like those of each action."""
    chosen: dict[str, int]
    """The action that obeys most often, of those that stand for the key if any do, for left, right and jump."""


def hold_keys(mode: str, levels: str, number: int, seed: int) -> HeldKeys:
    """Draw starts of the game and hold each of ``GAME_KEYS`` from them; arguments and errors as in ``draw_starts``."""
    starts = draw_starts(mode, levels, number, seed)
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by draw_starts
    tracks, lasts = [], []
    with contextlib.closing(open_games(config, seed=seed, num_envs=number)) as games:
        for real_action in GAME_KEYS.values():
            frames, last = hold_key(games, starts.states, real_action, CONTROL_STEPS)
            tracks.append(track_player(to_float(frames)))
            lasts.append(torch.from_numpy(last))
    return HeldKeys(starts.frames, torch.stack(tracks), torch.stack(lasts))


def starts_without_game(videos: Tensor, number: int) -> HeldKeys:
    """Return up to ``number`` starts, the first frames of (B, T, C, H, W) clips evenly spaced, with no key held."""
    rows = torch.linspace(0, len(videos) - 1, min(len(videos), number)).round().long()
    lasts = torch.full((0, len(rows)), CONTROL_STEPS)
    return HeldKeys(to_uint8(videos[rows, :START_FRAMES]), torch.zeros(0, len(rows), 1 + CONTROL_STEPS, 2), lasts)


def score_held_actions(
    world: GenieWorldModel, starts: ControlStarts, seed: int, report: Report
) -> tuple[dict[str, Any], Tensor]:
    """Hold each latent action from all starts.

    Returns:
        ``steps`` and, by mode, ``measure_control`` under ``by_mode``; if there is a game ``map``, the key that each
        latent action stands for, and ``chosen``, the action for each of left, right and jump. And (A, M, T, C, H, W)
        roll-outs from the first start of each mode.
    """
    matches = None
    if starts.fitted:
        matches = match_actions(
            [hold_actions(world, each.frames, seed, report=report)[0] for each in starts.fitted], starts.fitted
        )
    by_mode, pictures = {}, []
    for mode, held in starts.scored.items():
        tracks, played = hold_actions(world, held.frames, seed, shown=1, report=report)
        by_mode[mode] = measure_control(tracks, held, matches, seed)
        pictures.append(played)
    found = {} if matches is None else {"map": [list(GAME_KEYS)[key] for key in matches.keys], "chosen": matches.chosen}
    return {"steps": CONTROL_STEPS, **found, "by_mode": by_mode}, torch.cat(pictures, dim=1)


def hold_actions(
    world: GenieWorldModel, frames: np.ndarray, seed: int, shown: int = 0, report: Report = lambda stage, share: None
) -> tuple[Tensor, Tensor]:
    """Hold each of A latent actions from (M, P, H, W, 3) uint8 starts.

    Returns:
        (A, M, 1 + ``CONTROL_STEPS``, 2) float64 pixels right and up, and the (A, shown, 1 + ``CONTROL_STEPS``, C, H, W)
        roll-outs from the first starts.
    """
    tracks, pictures = [], []
    for first in range(0, len(frames), _CHUNK):
        report("each latent action held from many starts", first / len(frames))
        played = play_each_action(world, to_float(frames[first : first + _CHUNK]), CONTROL_STEPS, seed + first)
        tracks.append(track_player(played))
        pictures.append(played[:, : max(0, shown - first)])
    return torch.cat(tracks, dim=1), torch.cat(pictures, dim=1)


def match_actions(tracks: Sequence[Tensor], held: Sequence[HeldKeys]) -> Matches:
    """Find what latent actions stand for, given the tracks of ``hold_actions`` and ``HeldKeys`` of the same starts."""
    actions = torch.cat(list(tracks), dim=1)
    games, lasts = torch.cat([each.tracks for each in held], dim=1), torch.cat([each.lasts for each in held], dim=1)
    counts = torch.arange(actions.shape[2]) <= lasts[..., None]  # (K, M, 1 + S)
    errors = (actions[:, None] - games).norm(dim=-1)  # (A, K, M, 1 + S); not squared: few starts that fail count little
    keys = ((errors * counts).sum(dim=(2, 3)) / counts.sum(dim=(1, 2))).argmin(dim=1)
    chosen = {}
    for key, (step, way) in _ORDERS.items():
        number = list(GAME_KEYS).index(key)
        steps = lasts[number].clamp(max=step).expand(len(actions), -1)
        went = _places(actions, steps) @ torch.tensor(way, dtype=torch.float64)
        obeyed = (went >= _OBEYED).double().mean(dim=1)
        # Actions that stand for the key come first: a jump to the right, which passes walls, is not "right". Of actions
        # that obey equally often, the one that goes farthest is taken.
        chosen[key] = int((2 * (keys == number) + obeyed + 1e-6 * went.mean(dim=1)).argmax())
    return Matches(keys, chosen)


def measure_control(tracks: Tensor, held: HeldKeys, matches: Matches | None, seed: int) -> dict[str, Any]:
    """Compare the tracks of ``hold_actions`` with those of the game's keys from the same starts.

    Args:
        tracks: (A, M, 1 + S, 2) pixels right and up.
        held: The starts, and the game's tracks.
        matches: What the actions stand for; None if there is no game.
        seed: Seed of the shuffled labels and of the bootstrap.

    Returns:
        ``starts``; for the ``world``, and for its actions ``shuffled`` at every start: ``x_explained`` and
        ``y_explained``. If there is a game, for both and for the ``game``: these and ``agreement_x``, ``agreement_y``,
        ``obedience_left``, ``obedience_right`` and ``obedience_jump``; ``blind``, the agreement of a world in which a
        key always causes the mean motion; ``ratio``, by score the world's as a share of the game's, with its 95 %
        bootstrap interval over starts, both None if the game's is 0; ``ended``, the share of keys that end the game;
        ``at_rest``, all of this for the starts whose player stands still, only their number if there are less than two.
    """
    if matches is None:
        shuffled = _shuffle(tracks, seed)
        ends = {"world": tracks[:, :, -1], "shuffled": shuffled[:, :, -1]}
        return {"starts": tracks.shape[1]} | {name: _to_numbers(explain_motion(each)) for name, each in ends.items()}
    rests = (track_player(to_float(held.frames))[:, -1].abs() <= _AT_REST).all(dim=-1)
    resting = HeldKeys(held.frames[rests.numpy()], held.tracks[:, rests], held.lasts[:, rests])
    number = int(rests.sum())
    at_rest = {"starts": number} if number < 2 else _compare(tracks[:, rests], resting, matches, seed)
    return {**_compare(tracks, held, matches, seed), "at_rest": at_rest}


def _shuffle(tracks: Tensor, seed: int) -> Tensor:
    """Permute the actions of (A, M, ...) tracks at every start."""
    order = torch.rand(tracks.shape[:2], generator=torch.Generator().manual_seed(seed)).argsort(dim=0)
    return tracks.gather(0, order[..., None, None].expand_as(tracks))


def _compare(tracks: Tensor, held: HeldKeys, matches: Matches, seed: int) -> dict[str, Any]:
    starts = tracks.shape[1]
    own = Matches(torch.arange(len(GAME_KEYS)), {key: list(GAME_KEYS).index(key) for key in _ORDERS})
    parts = {
        "world": _prepare(tracks, held, matches),
        "game": _prepare(held.tracks, held, own),
        "shuffled": _prepare(_shuffle(tracks, seed), held, matches),
    }
    scores = {name: _score(part) for name, part in parts.items()}
    goes_on = (torch.arange(held.tracks.shape[2]) <= held.lasts[..., None]).double()[..., None]
    means = (held.tracks * goes_on).sum(dim=1, keepdim=True) / goes_on.sum(dim=1, keepdim=True).clamp(min=1)
    blind = _score(_prepare(means.expand_as(held.tracks), held, own))
    draws = torch.randint(starts, (_RESAMPLES, starts), generator=torch.Generator().manual_seed(seed))
    resampled = [_score({name: each[:, draws] for name, each in parts[which].items()}) for which in ("world", "game")]
    return {
        "starts": starts,
        "ended": float((held.lasts < CONTROL_STEPS).double().mean()),
        **{name: _to_numbers(each) for name, each in scores.items()},
        "blind": {name: float(blind[name]) for name in ("agreement_x", "agreement_y")},
        "ratio": {
            name: _divide_scores(scores["world"][name], scores["game"][name], *(each[name] for each in resampled))
            for name in scores["world"]
        },
    }


def _prepare(tracks: Tensor, held: HeldKeys, matches: Matches) -> dict[str, Tensor]:
    """Return what the scores need of each start: (A, M) or (1, M) tensors, of which starts can be drawn."""
    steps = held.lasts[matches.keys]
    ends, games = _places(tracks, steps), _places(held.tracks[matches.keys], steps)
    parts = {"x": ends[..., 0], "y": ends[..., 1], "game_x": games[..., 0], "game_y": games[..., 1]}
    for key, (step, way) in _ORDERS.items():
        place = _places(tracks[[matches.chosen[key]]], held.lasts[[list(GAME_KEYS).index(key)]].clamp(max=step))
        parts[key] = (place @ torch.tensor(way, dtype=torch.float64) >= _OBEYED).double()
    return parts


def _score(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores of (A, M) parts, or of (A, R, M) ones for each of R resamples."""
    scores = explain_motion(torch.stack([parts["x"], parts["y"]], dim=-1))
    for axis in ("x", "y"):
        scores[f"agreement_{axis}"] = _determination(parts[axis], parts[f"game_{axis}"])
    return scores | {f"obedience_{key}": parts[key].mean(dim=(0, -1)) for key in _ORDERS}


def _determination(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return R squared, the share of the actual values' variance that predictions explain, over the outer two axes."""
    left = (actual - predicted).square().sum(dim=(0, -1))
    total = (actual - actual.mean(dim=(0, -1), keepdim=True)).square().sum(dim=(0, -1))
    return torch.where(total > 0, 1 - left / total, (left == 0).double())


def _places(tracks: Tensor, steps: Tensor) -> Tensor:
    """Return the (A, M, 2) places of (A, M, T, 2) tracks at (A, M) steps."""
    return tracks.gather(2, steps[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]


def _divide_scores(world: Tensor, game: Tensor, worlds: Tensor, games: Tensor) -> dict[str, Any]:
    if float(game) <= 0:
        return {"ratio": None, "interval": None}
    ratios = (worlds / games)[games > 0]
    return {"ratio": float(world / game), "interval": [float(ratios.quantile(share)) for share in (0.025, 0.975)]}


def _to_numbers(scores: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(score) for name, score in scores.items()}
