"""Which of the game's moves a world's latent actions tell apart, of those that lead to different frames.

    python -m experiments.told_apart --preset full

What a label says of the key that was pressed is bounded by what the key changed: a jump in mid-air is none. So moments
of play on validation levels are played on by several moves each, from the same state, and only pairs of moves that lead
to different frames count. A pair that is told apart got two different latent actions; of one that is not, no policy can
learn from these labels when to do the one and when the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from genie_gym.configs import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import open_games
from genie_gym.metrics.controllability import bootstrap_interval
from genie_gym.metrics.held_out import restrict
from genie_gym.models.loading import digest_checkpoint
from genie_gym.players.specs import parse_share
from genie_gym.results.experiment import Experiment, Row
from genie_gym.serving import load_world

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"games": 8, "steps": 24, "every": 8},
    "full": {"games": 64, "steps": 192, "every": 6},
}
"""``games`` at once, played for so many ``steps``, of which ``every`` so-manieth is played on by all moves."""
MODES: tuple[Literal["easy", "hard"], ...] = ("easy", "hard")
PAIRS = {
    "jump running": (7, 8),
    "jump standing": (4, 5),
    "left or right": (1, 7),
    "run or stop": (7, 4),
}
"""Pairs of Procgen's real actions."""
MOVES = tuple(sorted({move for pair in PAIRS.values() for move in pair}))


class Labeller(Protocol):
    """Frames to latent actions, as ``GenieWorldModel`` tells them."""

    def label(self, videos: Tensor) -> Tensor:
        """(B, T, C, H, W) float in [0, 1] -> (B, T - 1) int64."""


class Moment(NamedTuple):
    """Where games stand, and where each of ``MOVES`` would lead: of M games whose episode goes on in all cases."""

    past: np.ndarray
    """(M, P, H, W, 3) uint8: frames of the episode up to now."""
    next_frames: np.ndarray
    """(M, moves, H, W, 3) uint8."""


def play_moments(
    mode: Literal["easy", "hard"], player: str, past: int, games: int, steps: int, every: int, seed: int
) -> Iterator[Moment]:
    """Moments of play on validation levels.

    Args:
        mode: Procgen's distribution mode.
        player: Spec of who plays.
        past: P, frames up to each moment.
        games: Played at once.
        steps: Of each game.
        every: Steps between moments.
        seed: Of games and player.
    """
    config, share = restrict(RecordConfig(mode=mode), "validation"), parse_share(player)
    played, shown, twins = (
        open_games(config, seed=seed, num_envs=games, paint_velocity=painted and share.sees_velocity)
        for painted in (False, True, False)
    )
    choose, seen, starts = share.player(seed), [], []
    for step in range(steps):
        now = played.observe()
        seen.append(now.frames.copy())
        starts.append(now.episode_starts.copy())
        seen, starts = seen[-past:], starts[-past:]
        if step % every == 0 and len(seen) == past:
            goes_on = ~np.any(starts[1:], axis=0)
            states, after = played.save(), []
            for move in MOVES:
                twins.restore(states)
                twins.act(np.full(games, move, dtype=np.int32))
                then = twins.observe()
                after.append(then.frames.copy())
                goes_on &= ~then.episode_starts
            yield Moment(np.stack(seen, axis=1)[goes_on], np.stack(after, axis=1)[goes_on])
        actions = choose(shown.observe().frames)
        played.act(actions)
        shown.act(actions)
    for each in (played, shown, twins):
        each.close()


def tell_apart(labeller: Labeller, moments: Iterator[Moment]) -> dict[str, tuple[int, Tensor]]:
    """Each of ``PAIRS``: how many states, and (N,) float64 of those where it shows, whether it is told apart."""
    labels, frames = [], []
    for past, after in moments:
        told = []
        for number in range(len(MOVES)):
            videos = to_float(np.concatenate([past, after[:, number, None]], axis=1))
            told.append(labeller.label(videos)[:, -1])
        labels.append(torch.stack(told, dim=1))
        frames.append(after)
    codes, shown = torch.cat(labels), np.concatenate(frames)
    outcome = {}
    for name, pair in PAIRS.items():
        one, other = (MOVES.index(move) for move in pair)
        differs = torch.from_numpy((shown[:, one] != shown[:, other]).any(axis=(1, 2, 3)))
        outcome[name] = len(codes), (codes[:, one] != codes[:, other])[differs].double()
    return outcome


@dataclass(frozen=True, kw_only=True)
class ToldApart(Experiment):
    """Play moments on by all moves, label what comes of it."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    player: str = "expert"
    """Spec of who plays, as ``genie-gym record`` takes it."""

    @property
    def name(self) -> str:
        return "told_apart"

    def run(self) -> None:
        """Play, label, write."""
        world, rows = load_world(self.checkpoint, self.device, "float32"), []
        for mode in MODES:
            past = world.latent_action_model.frames_seen
            moments = play_moments(mode, self.player, past, **SIZES[self.preset], seed=self.seed)
            told = tell_apart(world, tqdm(moments, desc=mode, leave=False))
            rows += [tell_pair(mode, pair, *each, self.seed) for pair, each in told.items()]
        digest = digest_checkpoint(self.checkpoint)
        self.write({"checkpoint": self.checkpoint, "digest": digest, "player": self.player, "rows": rows})


def tell_pair(mode: str, pair: str, states: int, told: Tensor, seed: int) -> Row:
    """A row of results: of so many states the share where the pair shows, and of these the share told apart."""
    shows = len(told)
    about: Row = {"mode": mode, "pair": pair, "states": states, "shows": shows / states if states else None}
    if not shows:
        return about | {"told_apart": None, "interval": None}
    return about | {"told_apart": float(told.mean()), "interval": bootstrap_interval(told, seed)}


if __name__ == "__main__":
    tyro.cli(ToldApart).run()
