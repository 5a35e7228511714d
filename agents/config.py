"""Hyperparameters of policies and their cloning; imports no torch."""

from dataclasses import dataclass
from typing import Literal

from genie_gym.configs import OptimizerConfig, TrainConfig, TransformerConfig

WIDTHS, FEATURES = (16, 32, 32), 256
"""Of the network in Procgen's baselines (arXiv 1912.01588)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """A policy over the last frames and what was done in them."""

    network: Literal["impala", "st-vivit"] = "impala"
    """``impala``: residual convolutions over the stacked frames; ``st-vivit``: the paper's tokenizer encoder."""
    context_length: int = 4
    """Frames that it sees (Genie, appendix E)."""
    sees_actions: bool = True
    """Whether it is told what was done in those frames."""
    widths: tuple[int, ...] = (32, 32)
    """``impala``: channels of each stage."""
    features: int = 256
    """Features before the last layer; 512 in the paper."""
    transformer: TransformerConfig | None = None
    """``st-vivit``: sizes."""
    patch_size: int = 4
    """Pixels a side of a patch, the paper's 4; ``impala`` takes patches in place of its first stage's convolution and
    pooling, or at 1 those."""

    def __post_init__(self) -> None:
        if self.network not in ("impala", "st-vivit"):
            raise ValueError(f"PolicyConfig.network must be impala or st-vivit, got {self.network!r}")
        for field in ("context_length", "features", "patch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"PolicyConfig.{field} must be positive, got {getattr(self, field)!r}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"PolicyConfig.widths must be one or more positive numbers, got {self.widths!r}")
        if (self.transformer is None) != (self.network == "impala"):
            raise ValueError(f"PolicyConfig.transformer must be given for st-vivit alone, got {self.transformer!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CloningConfig:
    """A policy and how it is cloned."""

    policy: PolicyConfig
    training: TrainConfig

    def __post_init__(self) -> None:
        seen, trained = self.policy.context_length, self.training.clip_length
        if seen != trained:
            raise ValueError(f"CloningConfig.training.clip_length must be the policy's context {seen}, got {trained}")


def _convolutional(policy: PolicyConfig) -> CloningConfig:
    optimizer = OptimizerConfig(
        kind="muon-conv",
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        schedule="cosine",
        warmup_steps=100,
        betas=(0.9, 0.96),
    )
    training = TrainConfig(
        train_steps=3000, batch_size=64, clip_length=4, optimizer=optimizer, precision="float32", picture_every=0
    )
    return CloningConfig(policy=policy, training=training)


def _paper() -> CloningConfig:
    """Appendix E. The feed-forward is as wide as the model, as elsewhere; steps are not stated."""
    stack = TransformerConfig(layers=12, width=512, heads=8, feed_forward_width=512)
    optimizer = OptimizerConfig(
        learning_rate=3e-5, final_learning_rate=3e-6, schedule="cosine", warmup_steps=5_000, betas=(0.9, 0.96)
    )
    training = TrainConfig(train_steps=50_000, batch_size=16, clip_length=4, optimizer=optimizer, picture_every=0)
    return CloningConfig(policy=PolicyConfig(network="st-vivit", features=512, transformer=stack), training=training)


POLICIES = {
    "impala": _convolutional(PolicyConfig()),
    "impala-procgen": _convolutional(PolicyConfig(widths=WIDTHS, features=FEATURES, patch_size=1)),
    "st-vivit": _paper(),
}
"""By name: ours for a few CPU cores, that of Procgen's baselines for a GPU, and the paper's."""
PolicyName = Literal["impala", "impala-procgen", "st-vivit"]
