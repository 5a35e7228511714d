"""The methods of ``agents.benchmark``. A new method or baseline is one more entry of ``CLONING_METHODS``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agents.acting import Agent, BlindPlayer, PlayerAgent, SeenThroughLatents, ThroughLatents
from agents.clone_store import CloneStore
from agents.experiment import Method, MethodInputs
from agents.mapping import Mapping
from genie_gym.players.specs import load_player, parse_share

PAPERS_LABELS = 200
"""Number of labelled samples at which the paper's policy equals the oracle."""
_RANDOM_SHARE = 0.1
"""Share of random actions that the oracle plays (Genie, appendix E)."""


@dataclass(frozen=True)
class CloningMethod(Method[CloneStore]):
    """A method of the benchmark."""

    budgets: Literal["none", "paper", "each"] = "none"
    """Rows by labelled samples: one that uses none or all, one for the paper's 200, or one for each number."""
    is_blind_to_latents: bool = False
    """Whether its rows are the same for any latent action model, so that ``--baselines`` can take them over."""
    colour: str | None = None
    """Matplotlib colour of its curve, drawn in the order of colours; not drawn if None."""

    def list_labels(self, numbers: Sequence[int]) -> list[int | None]:
        """Return the numbers of labelled samples of its rows, among those of the preset."""
        most = PAPERS_LABELS if PAPERS_LABELS in numbers else numbers[-1]
        choices: dict[str, list[int | None]] = {"none": [None], "paper": [most], "each": [*numbers]}
        return choices[self.budgets]


_Inputs = MethodInputs[CloneStore]


def _build_random(inputs: _Inputs) -> Agent:
    return PlayerAgent(load_player("random", inputs.seed))


def _build_expert(inputs: _Inputs) -> PlayerAgent:
    spec = inputs.store.recordings.player
    return PlayerAgent(load_player(spec, inputs.seed), parse_share(spec).sees_velocity)


def _build_blind(inputs: _Inputs) -> Agent:
    return PlayerAgent(BlindPlayer(inputs.store.draw_actions(inputs.labels, inputs.seed), inputs.seed))


def _build_oracle(inputs: _Inputs) -> Agent:
    return inputs.play_policy(inputs.store.oracle(inputs.seed), random_share=_RANDOM_SHARE)


def _build_labelled_only(inputs: _Inputs) -> Agent:
    return inputs.play_policy(inputs.store.labelled_only(inputs.labels, inputs.seed))


def _build_latent(inputs: _Inputs, mapping: Mapping | None = None) -> Agent:
    store, seed = inputs.store, inputs.seed
    return inputs.play_policy(store.latent_policy(seed), mapping or store.mapping(inputs.labels, seed))


def _build_through_latents(inputs: _Inputs) -> Agent:
    return ThroughLatents(_build_expert(inputs), inputs.store.mapping(None, inputs.seed), inputs.seed)


def _build_seen_latents(inputs: _Inputs) -> Agent:
    store, seed = inputs.store, inputs.seed
    ahead = store.game.open_levels(inputs.levels)
    return SeenThroughLatents(_build_expert(inputs), store.world, store.mapping(None, seed), ahead, seed)


_METHODS = (
    CloningMethod("random", "random", _build_random, is_blind_to_latents=True, colour="C4"),
    CloningMethod("expert", "the videos' player", _build_expert, is_blind_to_latents=True, colour="C5"),
    CloningMethod(
        "oracle",
        "oracle: the same policy on the videos' real actions",
        _build_oracle,
        needs=("oracle",),
        is_blind_to_latents=True,
        colour="C1",
    ),
    CloningMethod("lam", "latent policy, mapped", _build_latent, needs=("lam",), budgets="each", colour="C0"),
    CloningMethod(
        "labelled_only",
        "the labelled samples alone",
        _build_labelled_only,
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
        _build_blind,
        budgets="paper",
        is_blind_to_latents=True,
        colour="C3",
    ),
    CloningMethod("lam_oracle_map", "- by all labelled games", _build_latent, needs=("lam",)),
    CloningMethod("expert_latents", "the videos' player through latent actions", _build_through_latents),
    CloningMethod("expert_seen_latents", "- by the latent action of what its action leads to", _build_seen_latents),
)
CLONING_METHODS = {method.name: method for method in _METHODS}
"""The benchmark's methods by name, in the order of their rows."""
