"""Long play: whether the player is still seen, and the world still answers, after hundreds of steps.

Sessions open on starts of the game, on the ground, and are played by several policies. Real play from the same starts
stands beside them. A world that repeats its start frame keeps its player, but is frozen and covers no distance.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float, to_uint8
from genie_gym.data.procgen import open_games
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.control import GAME_KEYS
from genie_gym.metrics.controllability import bootstrap_interval
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import track_player
from genie_gym.metrics.outputs import Report
from genie_gym.metrics.player_detector import load_detector
from genie_gym.metrics.starts import RIGHT, Starts, draw_starts, hold_key
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.models.world_state import WorldState
from genie_gym.players.random import StickyRandom

Policy = Callable[[np.ndarray, np.ndarray], int]
"""A policy as on the page (``play.drivers.Driver``): last frames and latent actions of a session -> the next one."""
SEEN_STEPS = (50, 100, 200, 500, 1000)
"""Steps after which the player is looked for, as far as sessions reach."""
_FORKS = 4
"""Number of states of a session, evenly spaced, from which every action is held."""
_HELD_STEPS = 16
"""Steps for which an action or key is held from each of these states."""
_MOVED = 2
"""Pixels from which on the level counts as moved."""
_DISTANCE_STEPS = 32
"""Steps of right over which the distances in the world and in the game are compared."""
_RESAMPLES = 2000
"""Bootstrap resamples of a ratio."""
_SHOWN_FRAMES = 16
"""Largest number of last frames that a policy is given."""


class Played(NamedTuple):
    """M sessions of S steps."""

    frames: np.ndarray
    """(M, 1 + S, H, W, 3) uint8, from the start on."""
    is_frozen: Tensor
    """(M, ``_FORKS``) bool: True where no action or key that is held moves the level."""


class RandomLatentPolicy:
    """A policy that repeats the last latent action with a probability, or else draws one uniformly.

    Args:
        num_latent_actions: Number of latent actions to draw from.
        repeat: Probability of repeating the last one without a draw.
        seed: Seed of the choices.
    """

    def __init__(self, num_latent_actions: int, repeat: float, seed: int) -> None:
        self._num_latent_actions, self._repeat, self._rng = num_latent_actions, repeat, np.random.default_rng(seed)

    def __call__(self, frames: np.ndarray, latent_actions: np.ndarray) -> int:
        """Choose the next latent action; the frames do not matter."""
        keeps = self._rng.random() < self._repeat and len(latent_actions) > 0
        return int(latent_actions[-1] if keeps else self._rng.integers(self._num_latent_actions))


def score_sessions(
    world: GenieWorldModel,
    config: EvaluateConfig,
    policies: Mapping[str, Policy],
    right: int,
    report: Report = lambda stage, share: None,
) -> dict[str, Any]:
    """Play sessions under several policies, and the game beside them.

    Args:
        world: World model in eval mode, for frames of 64 x 64 pixels.
        config: Modes, levels, number and length of sessions, and the seed.
        policies: Policies by name.
        right: Latent action that stands for right.
        report: Called with each stage and the share of it done.

    Returns:
        ``games``, ``steps``, ``right_action``; and for each mode under ``by_mode``: ``player_seen_real``, the share of
        frames of real play in which the detector sees the player, ``frozen_real``, ``distance_ratio``, and by policy
        ``player_seen`` at some steps t and ``frozen``. Shares and the ratio have 95 % bootstrap intervals over games.
        ``frozen`` is the share of states, from one quarter of a session to the next, in which none of the latent
        actions, held for 16 steps, moves the level by 2 pixels; ``frozen_real`` the same for keys of the game.
        ``distance_ratio`` divides the pixels that 32 steps of right go in the world by those in the game, each game up
        to its end.

    Raises:
        ValueError: If there are no such levels, or the world has frames of another size.
        MissingExtraError: If procgen is not installed.
    """
    detector, by_mode, seed, steps = load_detector(), {}, config.seed, config.session_steps
    for mode in config.modes:
        report(f"sessions, {mode}", 0)
        starts = draw_starts(mode, config.levels, config.sessions, seed)
        real = play_game(starts, mode, config.levels, steps, seed)
        seen = torch.stack([detector.sees_player(to_float(game)) for game in real.frames]).double().mean(dim=1)
        scores: dict[str, Any] = {
            "player_seen_real": _summarise(seen, seed),
            "frozen_real": _summarise(real.is_frozen.double().mean(dim=1), seed),
            "distance_ratio": compare_distances(world, starts, mode, config.levels, right, seed),
            "policies": {},
        }
        for index, (name, policy) in enumerate(policies.items()):
            report(f"sessions, {mode}", (index + 1) / (len(policies) + 1))
            played = play_sessions(world, starts.frames, policy, steps, seed)
            at = [step for step in SEEN_STEPS if step <= steps] or [steps]
            seen = detector.sees_player(to_float(played.frames[:, at])).double()
            scores["policies"][name] = {
                "player_seen": [{"t": t, **_summarise(seen[:, column], seed)} for column, t in enumerate(at)],
                "frozen": _summarise(played.is_frozen.double().mean(dim=1), seed),
            }
        by_mode[mode] = scores
    return {"games": config.sessions, "steps": steps, "right_action": right, "by_mode": by_mode}


@torch.no_grad()
def play_sessions(world: GenieWorldModel, prompts: np.ndarray, policy: Policy, steps: int, seed: int) -> Played:
    """Play sessions from (M, P, H, W, 3) uint8 prompts under a policy; from every quarter on, hold each action too."""
    rows = len(prompts)
    state, start = world.reset(to_float(prompts), range(seed, seed + rows))
    frames, latent_actions = [to_uint8(start)], np.empty((rows, 0), dtype=np.int64)
    is_frozen = []
    for step in range(1, steps + 1):
        shown = np.stack(frames[-_SHOWN_FRAMES:], axis=1)
        taken = latent_actions[:, len(frames) - shown.shape[1] :]
        chosen = np.array([policy(*each) for each in zip(shown, taken, strict=True)], dtype=np.int64)
        latent_actions = np.concatenate([latent_actions, chosen[:, None]], axis=1)
        state, frame = world.step(state, torch.from_numpy(chosen))
        frames.append(to_uint8(frame))
        if step % max(1, steps // _FORKS) == 0:
            is_frozen.append(_is_frozen(world, state, frame))
    return Played(np.stack(frames, axis=1), torch.stack(is_frozen, dim=1))


def _is_frozen(world: GenieWorldModel, state: WorldState, frame: Tensor) -> Tensor:
    """Return (M,) bool for M rows: True where no latent action, held from forks of a state, moves the level."""
    has_moved = torch.zeros(len(frame), dtype=torch.bool)
    for action in range(world.config.num_latent_actions):
        fork, held = world.fork(state), [frame]
        for _ in range(_HELD_STEPS):
            fork, now = world.step(fork, torch.full((len(frame),), action))
            held.append(now)
        has_moved |= _has_moved(torch.stack(held, dim=1).cpu())
    return ~has_moved


def play_game(starts: Starts, mode: str, levels: str, steps: int, seed: int) -> Played:
    """Play the game from M starts as the sticky-random player; from every quarter on, hold some keys too.

    A game that ends goes on with another try or level.
    """
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by RecordConfig
    player, rows = StickyRandom(seed), len(starts.states)
    with contextlib.closing(open_games(config, seed=seed, num_envs=rows)) as games:
        games.restore(starts.states)
        frames, is_frozen = [games.observe().frames.copy()], []
        for step in range(1, steps + 1):
            games.act(player(frames[-1]))
            frames.append(games.observe().frames.copy())
            if step % max(1, steps // _FORKS) == 0:
                states, has_moved = games.save(), torch.zeros(rows, dtype=torch.bool)
                for key in GAME_KEYS.values():
                    held, lasts = hold_key(games, states, key, _HELD_STEPS)
                    has_moved |= _has_moved(to_float(held)) | torch.from_numpy(lasts < _HELD_STEPS)
                games.restore(states)
                is_frozen.append(~has_moved)
    return Played(np.stack(frames, axis=1), torch.stack(is_frozen, dim=1))


def compare_distances(
    world: GenieWorldModel, starts: Starts, mode: str, levels: str, right: int, seed: int
) -> dict[str, Any]:
    """Return the pixels that held right goes in the world, divided by those in the game, with its interval.

    Raises:
        ValueError: If right goes nowhere in the game from any start.
    """
    config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # validated by RecordConfig
    rows = len(starts.states)
    with contextlib.closing(open_games(config, seed=seed, num_envs=rows)) as games:
        frames, lasts = hold_key(games, starts.states, RIGHT, _DISTANCE_STEPS)
    held = torch.full((rows, _DISTANCE_STEPS), right)
    played = world.rollout(to_float(starts.frames), held, seed)[:, -1 - _DISTANCE_STEPS :].cpu()
    both = torch.stack([track_player(videos)[torch.arange(rows), lasts, 0] for videos in (played, to_float(frames))])
    if both[1].sum() <= 0:
        raise ValueError(f"sessions must be more: right goes nowhere in the game from any of the {rows} starts")
    draws = torch.randint(rows, (_RESAMPLES, rows), generator=torch.Generator().manual_seed(seed))
    sums = both[:, draws].sum(dim=-1)
    sums = sums[:, sums[1] > 0]  # a resample of games that all stand at a wall has no ratio
    interval = (sums[0] / sums[1]).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"share": float(both[0].sum() / both[1].sum()), "interval": interval}


def repeat_probability(labels: Tensor, num_latent_actions: int) -> float:
    """Return the probability of repetition at which random actions persist as labels (B, T) of real play do.

    Uniform draws repeat by chance too, so it is less than the share of labels equal to the one before.
    """
    persistence, chance = float((labels[:, 1:] == labels[:, :-1]).double().mean()), 1 / num_latent_actions
    return max(0.0, (persistence - chance) / (1 - chance))


def _has_moved(videos: Tensor) -> Tensor:
    """Return (M,) bool for (M, T, C, H, W) videos: True where the level moves by ``_MOVED`` pixels at any time."""
    return (track_player(videos).abs() >= _MOVED).flatten(1).any(dim=1)


def _summarise(values: Tensor, seed: int) -> dict[str, Any]:
    return {"share": float(values.mean()), "interval": list(bootstrap_interval(values, seed))}
