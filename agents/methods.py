"""The methods of ``agents.benchmark``. A new method or baseline is one more entry of ``CLONING_METHODS``."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agents.acting import Agent, BlindPlayer, PlayerAgent, SeenThroughLatents, ThroughLatents
from agents.clone_store import CloneStore, Relabelling
from agents.config import PAPERS_LABELS
from agents.experiment import Method, MethodInputs
from agents.mapping import Mapping
from genie_gym.players.specs import load_player, parse_share


@dataclass(frozen=True)
class CloningMethod(Method[CloneStore]):
    """A method of the benchmark, with the numbers of labelled samples it is run with."""

    budgets: Literal["none", "paper", "each"] = "none"
    """Numbers of labelled samples it has rows for: ``none`` (it uses none or all), the ``paper``'s 200, or ``each``."""
    is_blind_to_latents: bool = False
    """Whether its rows are the same for any latent action model, so that ``--baselines`` can take them over."""
    colour: str | None = None
    """Matplotlib colour of its curve, drawn in the order of colours; not drawn if None."""

    def list_labels(self, numbers: Sequence[int]) -> list[int | None]:
        """Return the number of labelled samples of each of its rows, chosen from the preset's ascending ``numbers``."""
        papers = choose_papers_labels(numbers)
        choices: dict[str, list[int | None]] = {"none": [None], "paper": [papers], "each": [*numbers]}
        return choices[self.budgets]


def choose_papers_labels(numbers: Sequence[int]) -> int:
    """Return the paper's number of labelled samples, or the largest of the ascending ``numbers`` if it is not one."""
    return PAPERS_LABELS if PAPERS_LABELS in numbers else numbers[-1]


_Inputs = MethodInputs[CloneStore]


def _build_random(inputs: _Inputs) -> PlayerAgent:
    return PlayerAgent(load_player("random", inputs.seed))


def _build_expert(inputs: _Inputs) -> PlayerAgent:
    spec = inputs.store.recordings.player
    return PlayerAgent(load_player(spec, inputs.seed), parse_share(spec).sees_velocity)


def _build_latent(inputs: _Inputs, mapping: Mapping | None = None) -> Agent:
    mapping = mapping or inputs.store.mapping(inputs.labels, inputs.seed)
    return inputs.play_policy(inputs.store.latent_policy(inputs.seed), mapping)


def _build_relabelled(name: Relabelling, inputs: _Inputs) -> Agent:
    return inputs.play_policy(inputs.store.relabelled(name, inputs.seed))


def _build_seen_latents(inputs: _Inputs) -> Agent:
    mapping, ahead = inputs.store.mapping(None, inputs.seed), inputs.store.game.open_levels(inputs.levels)
    return SeenThroughLatents(_build_expert(inputs), inputs.store.world, mapping, ahead, inputs.seed)


_METHODS = (
    CloningMethod("random", "random", _build_random, is_blind_to_latents=True, colour="C4"),
    CloningMethod("expert", "the videos' player", _build_expert, is_blind_to_latents=True, colour="C5"),
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
        "- by an inverse model of the samples alone",
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
    CloningMethod(
        "lam_majority",
        "- by each latent action's most frequent real one",
        lambda inputs: _build_latent(inputs, inputs.store.mapping(inputs.labels, inputs.seed).majority()),
        needs=("lam",),
        budgets="paper",
    ),
    CloningMethod(
        "lam_features",
        "- by a mapping that also sees the policy's features",
        lambda inputs: _build_latent(inputs, inputs.store.feature_mapping(inputs.labels, inputs.seed)),
        needs=("lam",),
        budgets="paper",
    ),
    CloningMethod(
        "marginal",
        "blind: draws the samples' actions",
        lambda inputs: PlayerAgent(BlindPlayer(inputs.store.draw_actions(inputs.labels, inputs.seed), inputs.seed)),
        budgets="paper",
        is_blind_to_latents=True,
        colour="C3",
    ),
    CloningMethod("lam_oracle_map", "- by all labelled games", _build_latent, needs=("lam",)),
    CloningMethod(
        "expert_latents",
        "the videos' player through latent actions",
        lambda inputs: ThroughLatents(_build_expert(inputs), inputs.store.mapping(None, inputs.seed), inputs.seed),
    ),
    CloningMethod("expert_seen_latents", "- by the latent action of what its action leads to", _build_seen_latents),
)
CLONING_METHODS = {method.name: method for method in _METHODS}
"""The benchmark's methods by name, in the order of their rows."""
