"""The methods of ``agents.benchmark``. A new method or baseline is one more entry of ``CLONING_METHODS``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agents.acting import Agent, BlindPlayer, ClonedAgent, PlayerAgent, SeenThroughLatents, ThroughLatents
from agents.clone_store import CloneStore
from agents.experiment import Method
from agents.mapping import Mapping
from genie_gym.players.specs import load_player, parse_share

PAPERS_LABELS = 200
"""Number of labelled samples at which the paper's policy equals the oracle."""
_RANDOM_SHARE = 0.1
"""Share of random actions that the oracle plays (Genie, appendix E)."""


class MethodInputs(NamedTuple):
    """The inputs from which a method builds its agent."""

    store: CloneStore
    player: str
    """Spec of the player in the videos."""
    levels: Sequence[int]
    labels: int | None
    """Number of labelled samples; all if None."""
    seed: int


class BuiltAgent(NamedTuple):
    """An agent, and its mapping from latent actions if it has one."""

    agent: Agent
    mapping: Mapping | None = None


@dataclass(frozen=True)
class CloningMethod(Method[[MethodInputs], BuiltAgent]):
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


def _load_player(setup: MethodInputs) -> PlayerAgent:
    return PlayerAgent(load_player(setup.player, setup.seed), parse_share(setup.player).sees_velocity)


def _build_random(setup: MethodInputs) -> BuiltAgent:
    return BuiltAgent(PlayerAgent(load_player("random", setup.seed)))


def _build_expert(setup: MethodInputs) -> BuiltAgent:
    return BuiltAgent(_load_player(setup))


def _build_blind(setup: MethodInputs) -> BuiltAgent:
    assert setup.labels is not None
    return BuiltAgent(PlayerAgent(BlindPlayer(setup.store.draw_actions(setup.labels, setup.seed), setup.seed)))


def _build_oracle(setup: MethodInputs) -> BuiltAgent:
    policy, game = setup.store.oracle(setup.seed), setup.store.game
    return BuiltAgent(ClonedAgent(policy, len(setup.levels), setup.seed, random_share=_RANDOM_SHARE, game=game))


def _build_labelled_only(setup: MethodInputs) -> BuiltAgent:
    assert setup.labels is not None
    policy = setup.store.labelled_only(setup.labels, setup.seed)
    return BuiltAgent(ClonedAgent(policy, len(setup.levels), setup.seed, game=setup.store.game))


def _build_latent(setup: MethodInputs, mapping: Mapping | None = None) -> BuiltAgent:
    policy, mapping = setup.store.latent_policy(setup.seed), mapping or setup.store.mapping(setup.labels, setup.seed)
    return BuiltAgent(ClonedAgent(policy, len(setup.levels), setup.seed, mapping, game=setup.store.game), mapping)


def _build_through_latents(setup: MethodInputs) -> BuiltAgent:
    mapping = setup.store.mapping(None, setup.seed)
    return BuiltAgent(ThroughLatents(_load_player(setup), mapping, setup.seed), mapping)


def _build_seen_latents(setup: MethodInputs) -> BuiltAgent:
    store, mapping = setup.store, setup.store.mapping(None, setup.seed)
    ahead = store.game.open_levels(setup.levels)
    return BuiltAgent(SeenThroughLatents(_load_player(setup), store.world, mapping, ahead, setup.seed), mapping)


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
        lambda setup: _build_latent(setup, setup.store.mapping(setup.labels, setup.seed).majority()),
        needs=("lam",),
        budgets="paper",
    ),
    CloningMethod(
        "lam_features",
        "- by a mapping that also sees the policy's features",
        lambda setup: _build_latent(setup, setup.store.feature_mapping(setup.labels, setup.seed)),
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
