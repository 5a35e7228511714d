"""Rows of methods that never look at a frame.

Much of CoinRun is solved without eyes: what a method has learned to see is what it solves beyond these rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from agents.acting import Agent, PlayerAgent
from agents.blind import BlindPlayer, play_constant
from agents.experiment import Method, MethodInputs
from agents.game import COINRUN, Game, ProcgenGame

_RIGHT, _JUMP_RIGHT = 7, 8
_JUMP_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)

_Inputs = MethodInputs[Any]


def list_blind_methods() -> list[Method[Any]]:
    """Return the methods that need no frame: constant moves, right with random jumps, drawn samples, and random."""
    moves = [int(move) for move in np.unique(COINRUN.moves)]
    held = [
        Method[Any](
            f"constant_{move}", f"blind: holds action {move}", _hold(move), kind="constant", plays=_has_move(move)
        )
        for move in moves
    ]
    best = Method("best_constant", "blind: holds the best action", _hold_best, kind="constant")
    jumping = [
        Method[Any](
            f"right_jump_{share}",
            f"blind: right, jumping {share:.0%} of the time",
            _jump(share),
            kind="blind",
            plays=lambda game: isinstance(game, ProcgenGame),
        )
        for share in _JUMP_SHARES
    ]
    drawn = Method("marginal", "blind: draws the samples' actions", _draw_samples, kind="blind", budgets="paper")
    chance = Method("random", "random", _play_random, kind="blind")
    methods = [*held, best, *jumping, drawn, chance]
    return [replace(method, is_blind_to_latents=True, has_one_seed=method.kind == "constant") for method in methods]


def add_twins(methods: Iterable[Method[Any]]) -> list[Method[Any]]:
    """Return the methods, then a blind twin of each that sees frames: it draws with the shares of its actions."""
    methods = list(methods)
    return methods + [
        Method(
            f"blind_twin_{method.name}",
            f"blind twin of {method.name}: draws with its shares of actions",
            _build_twin,
            kind="blind",
            budgets="paper" if method.budgets == "each" else method.budgets,
            is_blind_to_latents=method.is_blind_to_latents,
            has_one_seed=method.has_one_seed,
            twin_of=method.name,
        )
        for method in methods
        if method.kind == "sighted"
    ]


def _has_move(move: int) -> Callable[[Game], bool]:
    return lambda game: move in game.moves


def _hold(action: int) -> Callable[[_Inputs], Agent]:
    return lambda inputs: play_constant(action)


def _hold_best(inputs: _Inputs) -> Agent:
    return play_constant(inputs.best_constant)


def _jump(share: float) -> Callable[[_Inputs], Agent]:
    shares = np.zeros(COINRUN.num_actions)
    shares[[_RIGHT, _JUMP_RIGHT]] = 1 - share, share
    return lambda inputs: PlayerAgent(BlindPlayer(shares, inputs.seed))


def _draw_samples(inputs: _Inputs) -> Agent:
    drawn = inputs.store.draw_actions(inputs.labels, inputs.seed)
    return PlayerAgent(BlindPlayer(np.bincount(drawn, minlength=inputs.store.game.num_actions), inputs.seed))


def _play_random(inputs: _Inputs) -> Agent:
    return PlayerAgent(inputs.store.game.find_player("random").player(inputs.seed))


def _build_twin(inputs: _Inputs) -> Agent:
    assert inputs.twin_actions is not None
    return PlayerAgent(BlindPlayer(inputs.twin_actions, inputs.seed))
