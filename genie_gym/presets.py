"""Presets by name: the world that ships, small ones for studies and tests, and the paper's.

Where the paper states a parameter count, the model is within 5 % of it (a test builds each on the meta device). The
paper states no feed-forward width, and with values as wide as k/q no width fits every row: the scaling rows fit with
values of d_model / heads and a feed-forward of d_model / 8, the 2.3B row with a feed-forward of d_model.
"""

import warnings
from dataclasses import replace
from typing import Any

from genie_gym.configs import (
    ConvActionConfig,
    DynamicsConfig,
    MovingActionConfig,
    OptimizerConfig,
    Preset,
    QuantizerConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainConfig,
    TransformerActionConfig,
    TransformerConfig,
    WorldConfig,
)

_SMALL_OPTIMIZER = OptimizerConfig(
    learning_rate=1e-3, final_learning_rate=2e-5, schedule="wsd", warmup_steps=50, betas=(0.9, 0.95)
)
_SMALL_TRAINING = TrainConfig(
    train_steps=800, batch_size=8, optimizer=_SMALL_OPTIMIZER, precision="float32", picture_every=0
)
SMALL_NETWORK_TRAINING = replace(
    _SMALL_TRAINING, train_steps=1000, batch_size=32, optimizer=replace(_SMALL_OPTIMIZER, schedule="cosine")
)
"""Training of small networks outside a world: the shipped player, the video features, the inverse model."""


def _stack(layers: int, width: int, heads: int, head_dim: int, feed_forward_width: int) -> TransformerConfig:
    return TransformerConfig(
        layers=layers, width=width, heads=heads, head_dim=head_dim, feed_forward_width=feed_forward_width
    )


def _convolutions(layers: int, width: int) -> TransformerConfig:
    return TransformerConfig(layers=layers, width=width, heads=1, feed_forward_width=width, attention="conv")


def _tokenizer(patch: int, encoder: TransformerConfig, decoder: TransformerConfig, **quantizer: Any) -> TokenizerConfig:
    codes = QuantizerConfig(**quantizer)
    return TokenizerConfig(patch_size=patch, encoder=encoder, decoder=decoder, quantizer=codes)


def _transformer_actions(stack: TransformerConfig, codes: int) -> TransformerActionConfig:
    quantizer = QuantizerConfig(codes=codes, dim=32)
    return TransformerActionConfig(patch_size=16, encoder=stack, decoder=stack, quantizer=quantizer)


def _small_dynamics(transformer: TransformerConfig, **changes: Any) -> DynamicsConfig:
    """Return a dynamics model with the small worlds' training options: masks per frame, and noise against drift."""
    shares: dict[str, Any] = {"min_mask_ratio": 0.2, "clean_frames": 0.5, "context_corruption": 0.1}
    return DynamicsConfig(transformer=transformer, mask_ratio_per="frame", **shares, **changes)


_TOKENIZER_OPTIMIZER = OptimizerConfig(learning_rate=3e-4, final_learning_rate=3e-4, warmup_steps=10_000)
TOKENIZER_TRAINING = TrainConfig(train_steps=300_000, batch_size=384, optimizer=_TOKENIZER_OPTIMIZER)
"""Training of the paper's tokenizers: appendix C.2, batch 384 from table 6."""

WORLD_OPTIMIZER = OptimizerConfig(learning_rate=3e-5, final_learning_rate=3e-6, schedule="cosine", warmup_steps=5_000)
"""Optimiser of the paper's dynamics: appendix C.3."""


def _paper(dynamics: TransformerConfig, train_steps: int, batch_size: int) -> Preset:
    """Return a preset with the paper's tokenizer and latent action model (appendices C.1, C.2) and this dynamics.

    Videos are 160 x 90 pixels at 10 frames a second. The tokenizer pads them to 160 x 92, as the paper's token counts
    imply.
    """
    world = WorldConfig(
        height=90,
        width=160,
        fps=10,
        tokenizer=_tokenizer(4, _stack(12, 512, 8, 64, 128), _stack(20, 1024, 16, 64, 256), codes=1024, dim=32),
        latent_action_model=_transformer_actions(_stack(20, 1024, 16, 64, 256), codes=8),
        dynamics=DynamicsConfig(transformer=dynamics),
        sampling=SamplingConfig(maskgit_steps=25, temperature=2.0),
        precision="bfloat16",
    )
    training = TrainConfig(train_steps=train_steps, batch_size=batch_size, optimizer=WORLD_OPTIMIZER)
    return Preset(world=world, tokenizer_training=TOKENIZER_TRAINING, world_training=training)


def _scaling_row(layers: int, heads: int, width: int, head_dim: int) -> TransformerConfig:
    """Return the dynamics of one row of appendix D."""
    return replace(_stack(layers, width, heads, head_dim, feed_forward_width=width // 8), value_dim=width // heads)


def _case_study() -> Preset:
    """Return the paper's case study (appendix F): CoinRun, hard, random player, on one mid-range device."""
    eight = _stack(8, 512, 8, 64, 512)
    world = WorldConfig(
        tokenizer=_tokenizer(4, eight, eight, codes=1024, dim=32),
        latent_action_model=_transformer_actions(eight, codes=6),
        dynamics=DynamicsConfig(transformer=_stack(12, 512, 8, 64, 512)),
        sampling=SamplingConfig(maskgit_steps=25, temperature=1.0),
        precision="bfloat16",
    )
    return Preset(
        world=world,
        tokenizer_training=replace(TOKENIZER_TRAINING, batch_size=48),
        world_training=TrainConfig(train_steps=200_000, batch_size=36, optimizer=WORLD_OPTIMIZER),
    )


def _coinrun() -> Preset:
    """Return the shipped world, of a size that two CPU cores train in hours and play live.

    256 tokens per frame cost about as much as 64, because squares of 2 x 2 tokens are folded into one position. The
    tokenizer is convolutional and sees each frame alone, so it is trained on single frames: 64 unrelated frames
    teach more than 4 clips of 16. The dynamics is trained with Muon.

    The latent action model is trained before the dynamics. It has 32 codes, 8 for horizontal and 4 for vertical changes
    of motion, merged into 8 latent actions by which codes follow each other. Codes start late, when the latents have
    learned what the decoder needs: only one transition in twenty is a jump. Where the camera keeps the player, if it
    does, and how far it moves are found in the data.
    """
    networks = _convolutions(2, 128), _convolutions(4, 128)
    action_codes = QuantizerConfig(codes=32, dim=16, levels=(8, 4), commitment_weight=0.1, start_after=600)
    latent_actions = MovingActionConfig(
        quantizer=action_codes, width=16, border="find", agent_box="find", agent_weight=0.8, merged_actions=8
    )
    world = WorldConfig(
        tokenizer=_tokenizer(4, *networks, codes=1024, dim=32, commitment_weight=1.0, decay=0.95),
        latent_action_model=latent_actions,
        dynamics=_small_dynamics(_stack(6, 256, 8, 32, 512), action_conditioning="film", fold=2),
        sampling=SamplingConfig(maskgit_steps=2, temperature=0.5),
        precision="auto",
    )
    optimizer = replace(_SMALL_OPTIMIZER, learning_rate=2e-3, final_learning_rate=4e-5, warmup_steps=100)
    clip_optimizer = replace(_SMALL_OPTIMIZER, warmup_steps=100)
    training = replace(_SMALL_TRAINING, precision="auto")
    clip_training = replace(training, train_steps=6000, optimizer=clip_optimizer, log_every=20)
    return Preset(
        world=world,
        tokenizer_training=replace(training, train_steps=4000, batch_size=64, clip_length=1, optimizer=optimizer),
        action_training=replace(clip_training, train_steps=1600, batch_size=20, clip_length=6),
        world_training=replace(clip_training, optimizer=replace(clip_optimizer, kind="muon", learning_rate=3e-3)),
    )


def _videos() -> Preset:
    """Return a world for any video: ``coinrun`` at 90 x 160 pixels and 10 frames a second.

    It assumes nothing about the camera either: what the camera does is found in the data.
    """
    return replace(_coinrun(), world=replace(_coinrun().world, height=90, width=160, fps=10))


def _study() -> Preset:
    """Return the world that experiments vary: 64 tokens per frame; two CPU cores train several an hour."""
    small = _stack(2, 128, 4, 32, 256)
    world = WorldConfig(
        tokenizer=_tokenizer(8, small, small, codes=1024, dim=32, commitment_weight=1.0, decay=0.95),
        latent_action_model=ConvActionConfig(
            quantizer=QuantizerConfig(codes=8, dim=16, commitment_weight=0.1, diversity_weight=0.2), width=16, history=3
        ),
        dynamics=_small_dynamics(_stack(4, 128, 4, 32, 256)),
        sampling=SamplingConfig(maskgit_steps=2, temperature=0.5),
    )
    training = replace(_SMALL_TRAINING, log_every=25)
    return Preset(world=world, tokenizer_training=training, world_training=training)


def _tiny() -> Preset:
    """Return a world for tests: all three models with a few thousand weights each."""
    small = _stack(1, 32, 2, 16, 32)
    world = WorldConfig(
        context_length=8,
        tokenizer=_tokenizer(16, small, small, codes=64, dim=8),
        latent_action_model=ConvActionConfig(quantizer=QuantizerConfig(codes=8, dim=8), width=8, history=2),
        dynamics=DynamicsConfig(transformer=_stack(2, 32, 2, 16, 64), mask_ratio_per="frame", clean_frames=0.5),
        sampling=SamplingConfig(maskgit_steps=2),
    )
    optimizer = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, schedule="cosine", warmup_steps=5)
    training = replace(
        _SMALL_TRAINING, train_steps=20, batch_size=4, clip_length=8, optimizer=optimizer, picture_every=10
    )
    return Preset(world=world, tokenizer_training=training, world_training=training)


SCALING_ROWS = {
    "scaling-41m": _scaling_row(18, 8, 512, 64),
    "scaling-96m": _scaling_row(16, 16, 768, 64),
    "scaling-192m": _scaling_row(20, 18, 1024, 64),
    "scaling-404m": _scaling_row(21, 12, 1536, 128),
    "scaling-811m": _scaling_row(20, 20, 2048, 128),
    "scaling-1.6b": _scaling_row(28, 22, 2560, 128),
    "scaling-2.7b": _scaling_row(36, 22, 3072, 128),
}
"""Dynamics of the paper's scaling study by size (appendix D), all trained at batch 256 for 200k steps."""

_RENAMED = {"coinrun-fine": "coinrun"}
"""Deprecated preset name -> present name; the deprecated ones are removed in the next release."""


class _PresetTable(dict[str, Preset]):
    """Presets by name; deprecated names are found too, with a warning."""

    def __missing__(self, name: str) -> Preset:
        if name not in _RENAMED:
            raise KeyError(name)
        message = f"preset {name!r} is now called {_RENAMED[name]!r}; the old name is removed in the next release"
        warnings.warn(message, FutureWarning, stacklevel=3)
        return self[_RENAMED[name]]


PRESETS: dict[str, Preset] = _PresetTable(
    {
        "tiny": _tiny(),
        "study": _study(),
        "coinrun": _coinrun(),
        "videos": _videos(),
        "coinrun-case-study": _case_study(),
        "platformers": _paper(_scaling_row(48, 36, 5120, 128), 125_000, 512),
        "robotics": _paper(_stack(38, 2560, 20, 128, 2560), 200_000, 256),
        **{name: _paper(row, 200_000, 256) for name, row in SCALING_ROWS.items()},
        **{f"batch-{batch}": _paper(_stack(34, 2560, 20, 128, 2560), 200_000, batch) for batch in (128, 256, 448)},
    }
)
"""Every preset by name. ``batch-*`` is the paper's batch-size study at 2.3B; for ``robotics`` the paper states 2.5B
parameters and no sizes, so it is that study's model with four more layers."""


def find_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        ValueError: If there is none.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {name!r}") from None
