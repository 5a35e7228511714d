"""The methods of ``agents.benchmark``. A new method or baseline is one more entry of ``CLONING_METHODS``."""

import functools
from typing import Any

from agents.acting import Agent, PlayerAgent, SeenThroughLatents
from agents.blind_methods import add_twins, list_blind_methods
from agents.clone_store import CloneStore, Relabelling
from agents.experiment import Method, MethodInputs
from agents.game import ProcgenGame
from genie_gym.players.specs import load_player

CloningMethod = Method[CloneStore]
"""A method of the benchmark."""
_Inputs = MethodInputs[CloneStore]


def _build_player(inputs: MethodInputs[Any]) -> PlayerAgent:
    share = inputs.store.game.find_player(inputs.store.recordings.player)
    return PlayerAgent(share.player(inputs.seed), share.sees_velocity)


def _build_latent(inputs: _Inputs) -> Agent:
    mapping = inputs.store.mapping(inputs.labels, inputs.seed)
    return inputs.play_policy(inputs.store.latent_policy(inputs.seed), mapping)


def _build_relabelled(name: Relabelling, inputs: _Inputs) -> Agent:
    return inputs.play_policy(inputs.store.relabelled(name, inputs.seed))


def _build_seen_latents(inputs: _Inputs) -> Agent:
    mapping, ahead = inputs.store.mapping(None, inputs.seed), inputs.store.game.open_levels(inputs.levels)
    return SeenThroughLatents(_build_player(inputs), inputs.store.world, mapping, ahead, inputs.seed)


PLAYER = Method[Any]("player", "the videos' player", _build_player, is_blind_to_latents=True, colour="C5")
"""The player of the videos itself, which learns nothing."""
_SIGHTED = (
    PLAYER,
    CloningMethod(
        "oracle",
        "oracle: the same policy on the videos' real actions",
        lambda inputs: inputs.play_policy(inputs.store.oracle(inputs.seed)),
        needs=("oracle",),
        is_blind_to_latents=True,
        colour="C1",
    ),
    CloningMethod("lam", "latent policy, mapped", _build_latent, needs=("lam",), budgets="each", colour="C0"),
    CloningMethod(
        "lam_relabel",
        "policy of videos relabelled by a decoder of latent actions' features",
        functools.partial(_build_relabelled, "lam_relabel"),
        needs=("lam_relabel",),
        budgets="paper",
    ),
    CloningMethod(
        "idm_relabel",
        "policy of videos relabelled by an inverse model of the samples alone",
        functools.partial(_build_relabelled, "idm_relabel"),
        needs=("idm_relabel",),
        budgets="paper",
        is_blind_to_latents=True,
    ),
    CloningMethod(
        "labelled_only",
        "the labelled samples alone",
        lambda inputs: inputs.play_policy(inputs.store.labelled_only(inputs.labels, inputs.seed)),
        budgets="each",
        is_blind_to_latents=True,
        colour="C2",
    ),
)
_CODE = CloningMethod(
    "player_seen_latents",
    "the videos' player, by latent actions of its next frames",
    _build_seen_latents,
    plays=lambda game: game.has_states,
)
"""A diagnosis: what is lost in latent actions and their dictionary alone, without a clone."""
_SEARCH = CloningMethod(
    "search",
    "search in copies of the game",
    lambda inputs: PlayerAgent(load_player("search", inputs.seed)),
    is_blind_to_latents=True,
    has_one_seed=True,
    plays=lambda game: isinstance(game, ProcgenGame),
)
"""The ceiling: what can be solved at all."""
CLONING_METHODS: dict[str, Method[Any]] = {
    method.name: method for method in (_SEARCH, *add_twins(_SIGHTED), _CODE, *list_blind_methods())
}
"""The benchmark's methods by name, in the order of their rows."""
