"""Measure how often two moves that lead to different frames get different latent actions (separability).

    python -m experiments.ablations.separability --preset full

States of play on validation levels are continued with several moves each. Pairs of moves that lead to the same frame,
such as jumps in mid-air, are not counted, since no label can tell them apart. If two other moves get the same latent
action, no policy can learn from these labels when to choose the one or the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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
from genie_gym.results.experiment import Row, WorldExperiment
from genie_gym.serving import load_world

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"games": 8, "steps": 24, "every": 8},
    "full": {"games": 64, "steps": 192, "every": 6},
}
"""Sizes by preset: ``games`` played at once, their ``steps``, and steps from one moment to the next (``every``)."""
_MODES: tuple[Literal["easy", "hard"], ...] = ("easy", "hard")
PAIRS = {"jump running": (7, 8), "jump standing": (4, 5), "left or right": (1, 7), "run or stop": (7, 4)}
"""Pairs of Procgen's real actions that are compared."""
_MOVES = tuple(sorted({move for pair in PAIRS.values() for move in pair}))  # tried in each state


class Moment(NamedTuple):
    """States of M games and the next frame under each of ``_MOVES``, without games whose episode a move ends."""

    past: np.ndarray
    """(M, P, H, W, 3) uint8: the frames up to the state."""
    next_frames: np.ndarray
    """(M, moves, H, W, 3) uint8: the frame that each move leads to."""


def play_moments(
    mode: Literal["easy", "hard"], player: str, past: int, games: int, steps: int, every: int, seed: int
) -> Iterator[Moment]:
    """Yield a moment of play on validation levels every ``every`` steps, once ``past`` frames (P) are played.

    ``player`` is a spec as for ``genie-gym record``; it plays ``games`` games at once, for ``steps`` steps each.
    """
    config, share = restrict(RecordConfig(mode=mode), "validation"), parse_share(player)
    # Three copies of the same games: the frames to label, those that the player sees, and games to try moves in.
    played, shown, tried = (
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
            for move in _MOVES:
                tried.restore(states)
                tried.act(np.full(games, move, dtype=np.int32))
                then = tried.observe()
                after.append(then.frames.copy())
                goes_on &= ~then.episode_starts
            yield Moment(np.stack(seen, axis=1)[goes_on], np.stack(after, axis=1)[goes_on])
        actions = choose(shown.observe().frames)
        played.act(actions)
        shown.act(actions)
    for each in (played, shown, tried):
        each.close()


def separate_moves(label: Callable[[Tensor], Tensor], moments: Iterator[Moment]) -> dict[str, tuple[int, Tensor]]:
    """Return, for each of ``PAIRS``, the number of states and how the moves are labelled where their frames differ.

    ``label`` maps videos (M, T, C, H, W) to latent actions (M, T - 1). The second value has shape (N,), float64, for
    the N states where the two frames differ: 1 if the latent actions differ too, else 0.
    """
    labels, frames = [], []
    for past, after in moments:
        videos = [to_float(np.concatenate([past, after[:, move, None]], axis=1)) for move in range(len(_MOVES))]
        labels.append(torch.stack([label(each)[:, -1] for each in videos], dim=1))
        frames.append(after)
    latents, shown = torch.cat(labels), np.concatenate(frames)  # (M, moves), (M, moves, H, W, 3)
    outcome = {}
    for name, pair in PAIRS.items():
        one, other = (_MOVES.index(move) for move in pair)
        differs = torch.from_numpy((shown[:, one] != shown[:, other]).any(axis=(1, 2, 3)))
        outcome[name] = len(latents), (latents[:, one] != latents[:, other])[differs].double()
    return outcome


@dataclass(frozen=True, kw_only=True)
class Separability(WorldExperiment):
    """Try all moves from the same states, and label the results."""

    name = "separability"
    player: str = "expert"
    """spec of the player whose states are continued, as for ``genie-gym record``"""

    def run(self) -> None:
        """Play, label, and write the results."""
        world, rows = load_world(self.checkpoint, self.device, "float32"), []
        for mode in _MODES:
            past = world.latent_action_model.frames_seen
            moments = play_moments(mode, self.player, past, **_SIZES[self.preset], seed=self.seed)
            pairs = separate_moves(world.label, tqdm(moments, desc=mode, leave=False))
            rows += [summarise_pair(mode, pair, *each, self.seed) for pair, each in pairs.items()]
        digest = digest_checkpoint(self.checkpoint)
        self.write({"checkpoint": self.checkpoint, "digest": digest, "player": self.player, "rows": rows})


def summarise_pair(mode: str, pair: str, states: int, separated: Tensor, seed: int) -> Row:
    """Return a row of results: the share of states whose frames differ, and the share of these that is separated."""
    shows = len(separated)
    about: Row = {"mode": mode, "pair": pair, "states": states, "shows": shows / states if states else None}
    if not shows:
        return about | {"told_apart": None, "interval": None}
    return about | {"told_apart": float(separated.mean()), "interval": bootstrap_interval(separated, seed)}


if __name__ == "__main__":
    tyro.cli(Separability).run()
