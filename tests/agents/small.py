"""Policies of a few hundred weights, and random frames, to test agents on."""

import numpy as np

from agents.config import CloningConfig, PolicyConfig
from genie_gym.configs import OptimizerConfig, TrainConfig, TransformerConfig

SMALL = PolicyConfig(widths=(4, 4, 4), features=16)
SMALL_IMPALA = PolicyConfig(network="impala", widths=(4, 4), features=16)
SMALL_TRANSFORMER = PolicyConfig(
    network="st-vivit",
    features=16,
    patch_size=16,
    transformer=TransformerConfig(layers=1, width=16, heads=2, head_dim=8, feed_forward_width=16),
)


def small_cloning(train_steps: int, policy: PolicyConfig = SMALL) -> CloningConfig:
    """Return a config for a few steps on a few windows."""
    optimizer = OptimizerConfig(learning_rate=1e-2, final_learning_rate=1e-2, warmup_steps=0)
    training = TrainConfig(
        train_steps=train_steps,
        batch_size=8,
        clip_length=4,
        optimizer=optimizer,
        precision="float32",
        picture_every=0,
        checkpoint_every=2,
    )
    return CloningConfig(policy=policy, training=training)


def random_frames(number: int, seed: int = 0) -> np.ndarray:
    """Return (number, 64, 64, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(256, size=(number, 64, 64, 3), dtype=np.uint8)
