"""Hyperparameters of policies and of their cloning, and the options that all trainings share; imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from genie_gym.checks import check_fields, require
from genie_gym.configs import OptimizerConfig, TrainConfig, TransformerConfig

PAPERS_LABELS = 200
"""Number of labelled samples with which the paper's policy is as good as its oracle."""
IMPALA_WIDTHS, IMPALA_FEATURES = (16, 32, 32), 256
"""Channels of each stage, and number of output features, of the network in Procgen's baselines (arXiv 1912.01588)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """Sizes and inputs of a policy, which chooses an action from the last frames and the past actions."""

    network: Literal["compact", "impala", "st-vivit"] = "compact"
    """``compact`` (few convolutions over stacked frames), ``impala`` (its residual stages over them) or ``st-vivit``
    (the paper's tokenizer encoder)"""
    context_length: int = 4
    """number of frames the policy sees (Genie, appendix E)"""
    sees_actions: bool = True
    """whether the policy sees the actions taken between its frames too"""
    widths: tuple[int, ...] = (16, 32, 32)
    """channels of each stage of ``impala``, or of ``compact``'s two convolutions and its stage"""
    features: int = 256
    """number of features before the last layer (paper: 512)"""
    dropout: float = 0.0
    """share of the convolutions' activations that ``compact`` drops in training"""
    transformer: TransformerConfig | None = None
    """transformer sizes of ``st-vivit``"""
    patch_size: int = 4
    """patch side in pixels of ``st-vivit`` (paper: 4)"""
    frame_size: tuple[int, int] = (64, 64)
    """height and width of the frames in pixels"""

    def __post_init__(self) -> None:
        check_fields(self, positive="context_length features patch_size frame_size")
        require(min(self.widths, default=0) > 0, "PolicyConfig.widths", self.widths, "one or more positive numbers")
        if self.network == "compact":
            require(len(self.widths) == 3, "PolicyConfig.widths", self.widths, "three numbers for compact")
        is_allowed = 0 <= self.dropout < 1 if self.network == "compact" else self.dropout == 0
        require(is_allowed, "PolicyConfig.dropout", self.dropout, "in [0, 1), and 0 for other networks than compact")
        is_given, is_needed = self.transformer is not None, self.network == "st-vivit"
        require(is_given == is_needed, "PolicyConfig.transformer", self.transformer, "given for st-vivit only")


@dataclass(frozen=True, kw_only=True, slots=True)
class CloningConfig:
    """Hyperparameters of a policy and of the training that clones it; both have the same number of frames."""

    policy: PolicyConfig
    training: TrainConfig
    random_shift: int = 0
    """largest shift in pixels of training windows, each by a random vector, all its frames alike; 0 for none"""
    decoder_share: float = 1 / 6
    """share of a decoder's own distribution in what is learned from it; the rest is the posterior by the policy"""
    posterior_after: float = 0.25
    """share of the training after which posteriors are learned; before, the decoder's distributions alone"""
    auxiliary_weight: float = 0.5
    """weight of a second loss of some clones, which also predict the videos' latent actions; 0 for none"""
    predicts_latents: tuple[str, ...] = ("lam_relabel",)
    """clones with that second loss, among ``oracle`` and ``lam_relabel``"""
    actions_ahead: int = 0
    """number of the next actions that a clone predicts too while it trains; 0 for none"""
    ahead_weight: float = 0.5
    """weight of the loss of these predictions"""

    def __post_init__(self) -> None:
        not_negative = "random_shift auxiliary_weight actions_ahead ahead_weight"
        check_fields(self, not_negative=not_negative, shares="decoder_share posterior_after")
        seen, trained = self.policy.context_length, self.training.clip_length
        require(seen == trained, "CloningConfig.training.clip_length", trained, f"the policy's context {seen}")
        is_known = set(self.predicts_latents) <= {"oracle", "lam_relabel"}
        require(is_known, "CloningConfig.predicts_latents", self.predicts_latents, "among oracle and lam_relabel")


CHOICES = frozenset({"predicts_latents"})
"""Fields of ``CloningConfig`` that choose clones; those not chosen are saved with an ``auxiliary_weight`` of 0."""
SOFT_FIELDS = CHOICES | {"decoder_share", "posterior_after"}
"""Fields of ``CloningConfig`` that make no difference to clones of single actions, as of the oracle."""
UNUSED_FIELDS = SOFT_FIELDS | {"auxiliary_weight"}
"""Fields of ``CloningConfig`` that make no difference to clones of single actions without a second loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Playing:
    """Settings by which cloned policies choose actions: latent policies, their oracle and all others alike."""

    temperature: float = 1.0
    """temperature of the policy's logits; 0 takes the likeliest action"""
    random_share: float = 0.0
    """share of actions replaced by uniformly random real ones (Genie's oracle: 0.1)"""

    def __post_init__(self) -> None:
        check_fields(self, not_negative="temperature", shares="random_share")


SAMPLED = Playing()
"""The paper's settings of latent policies: actions sampled from the policy's probabilities, none at random."""


CHOSEN = Playing(temperature=0.5)
"""Settings of figure 15's table; ``agents.cloning_trials`` tries other temperatures on validation levels."""


def decay_to_hundredth(learning_rate: float, **others: Any) -> OptimizerConfig:
    """Return an optimizer config whose learning rate decays to a hundredth by a cosine."""
    final = learning_rate / 100
    return OptimizerConfig(learning_rate=learning_rate, final_learning_rate=final, schedule="cosine", **others)


def _convolutional(policy: PolicyConfig) -> CloningConfig:
    optimizer = decay_to_hundredth(1e-3, kind="muon-conv", warmup_steps=100, betas=(0.9, 0.96))
    training = TrainConfig(
        train_steps=3000, batch_size=64, clip_length=4, optimizer=optimizer, precision="auto", picture_every=0
    )
    return CloningConfig(policy=policy, training=training, actions_ahead=3)


def _paper() -> CloningConfig:
    """Return the config of Genie's appendix E, which states no number of steps."""
    stack = TransformerConfig(layers=12, width=512, heads=8, feed_forward_width=512)
    optimizer = OptimizerConfig(
        learning_rate=3e-5, final_learning_rate=3e-6, schedule="cosine", warmup_steps=5_000, betas=(0.9, 0.96)
    )
    training = TrainConfig(train_steps=50_000, batch_size=16, clip_length=4, optimizer=optimizer, picture_every=0)
    return CloningConfig(policy=PolicyConfig(network="st-vivit", features=512, transformer=stack), training=training)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Options shared by the commands that train."""

    minutes: float | None = None
    """time limit of this call in minutes; a second call resumes the run"""
    device: str = "cpu"
    """torch device of the training, and of the world if there is one"""
    seed: int = 0
    """seed of the initial weights and of everything drawn at random"""


POLICIES = {
    "compact": _convolutional(PolicyConfig(dropout=0.2)),
    "impala": _convolutional(PolicyConfig(network="impala", widths=IMPALA_WIDTHS, features=IMPALA_FEATURES)),
    "st-vivit": _paper(),
}
"""Configs by name: for a few CPU cores, for a GPU (the network of Procgen's baselines), and the paper's."""
PolicyName = Literal["compact", "impala", "st-vivit"]
