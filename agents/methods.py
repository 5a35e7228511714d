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


def _build_random(at: _Inputs) -> PlayerAgent:
    return PlayerAgent(load_player("random", at.seed))


def _build_expert(at: _Inputs) -> PlayerAgent:
    spec = at.store.recordings.player
    return PlayerAgent(load_player(spec, at.seed), parse_share(spec).sees_velocity)


def _build_latent(at: _Inputs, mapping: Mapping | None = None) -> Agent:
    return at.play_policy(at.store.latent_policy(at.seed), mapping or at.store.mapping(at.labels, at.seed))


def _build_seen_latents(at: _Inputs) -> Agent:
    mapping, ahead = at.store.mapping(None, at.seed), at.store.game.open_levels(at.levels)
    return SeenThroughLatents(_build_expert(at), at.store.world, mapping, ahead, at.seed)


_METHODS = (
    CloningMethod("random", "random", _build_random, is_blind_to_latents=True, colour="C4"),
    CloningMethod("expert", "the videos' player", _build_expert, is_blind_to_latents=True, colour="C5"),
    CloningMethod(
        "oracle",
        "oracle: the same policy on the videos' real actions",
        lambda at: at.play_policy(at.store.oracle(at.seed), random_share=_RANDOM_SHARE),
        needs=("oracle",),
        is_blind_to_latents=True,
        colour="C1",
    ),
    CloningMethod("lam", "latent policy, mapped", _build_latent, needs=("lam",), budgets="each", colour="C0"),
    CloningMethod(
        "labelled_only",
        "the labelled samples alone",
        lambda at: at.play_policy(at.store.labelled_only(at.labels, at.seed)),
        budgets="each",
        is_blind_to_latents=True,
        colour="C2",
    ),
    CloningMethod(
        "lam_majority",
        "- by each latent action's most frequent real one",
        lambda at: _build_latent(at, at.store.mapping(at.labels, at.seed).majority()),
        needs=("lam",),
        budgets="paper",
    ),
    CloningMethod(
        "lam_features",
        "- by a mapping that also sees the policy's features",
        lambda at: _build_latent(at, at.store.feature_mapping(at.labels, at.seed)),
        needs=("lam",),
        budgets="paper",
    ),
    CloningMethod(
        "marginal",
        "blind: draws the samples' actions",
        lambda at: PlayerAgent(BlindPlayer(at.store.draw_actions(at.labels, at.seed), at.seed)),
        budgets="paper",
        is_blind_to_latents=True,
        colour="C3",
    ),
    CloningMethod("lam_oracle_map", "- by all labelled games", _build_latent, needs=("lam",)),
    CloningMethod(
        "expert_latents",
        "the videos' player through latent actions",
        lambda at: ThroughLatents(_build_expert(at), at.store.mapping(None, at.seed), at.seed),
    ),
    CloningMethod("expert_seen_latents", "- by the latent action of what its action leads to", _build_seen_latents),
)
CLONING_METHODS = {method.name: method for method in _METHODS}
"""The benchmark's methods by name, in the order of their rows."""
