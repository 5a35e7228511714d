"""Worlds by name: some of ours, and the paper's.

Where the paper states a parameter count, the model is within 5 % of it (a test builds each on the meta device).
It states no feed-forward width, and none fits every row with values as wide as k/q: the scaling rows fit with
values of d_model / heads and a feed-forward of d_model / 8, the 2.3B row with a feed-forward of d_model.
"""

from dataclasses import replace

from genie_gym.configs import (
    DynamicsConfig,
    LatentActionConfig,
    OptimizerConfig,
    Preset,
    QuantizerConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainConfig,
    TransformerConfig,
    WorldConfig,
)

SMALL_NETWORK_TRAINING = TrainConfig(
    train_steps=1000,
    batch_size=32,
    optimizer=OptimizerConfig(
        learning_rate=1e-3, final_learning_rate=2e-5, schedule="cosine", warmup_steps=50, betas=(0.9, 0.95)
    ),
    precision="float32",
    picture_every=0,
)
"""For what is no part of a world: the shipped player, the features of video distances, the inverse model."""


def _stack(layers: int, width: int, heads: int, head_dim: int, feed_forward_width: int) -> TransformerConfig:
    return TransformerConfig(
        layers=layers, width=width, heads=heads, head_dim=head_dim, feed_forward_width=feed_forward_width
    )


def _convolutions(layers: int, width: int) -> TransformerConfig:
    return TransformerConfig(layers=layers, width=width, heads=1, feed_forward_width=width, attention="conv")


TOKENIZER_TRAINING = TrainConfig(
    train_steps=300_000,
    batch_size=384,
    optimizer=OptimizerConfig(learning_rate=3e-4, final_learning_rate=3e-4, warmup_steps=10_000),
)
"""Appendix C.2; batch 384 from table 6."""

WORLD_OPTIMIZER = OptimizerConfig(learning_rate=3e-5, final_learning_rate=3e-6, schedule="cosine", warmup_steps=5_000)
"""Appendix C.3."""


def _paper(dynamics: TransformerConfig, train_steps: int, batch_size: int) -> Preset:
    """160x90 videos, padded to 160x92 as the paper's token counts imply; sizes of C.1 and C.2."""
    world = WorldConfig(
        height=92,
        width=160,
        tokenizer=TokenizerConfig(
            patch_size=4,
            encoder=_stack(12, 512, 8, 64, 128),
            decoder=_stack(20, 1024, 16, 64, 256),
            quantizer=QuantizerConfig(codes=1024, dim=32),
        ),
        latent_action_model=LatentActionConfig(
            patch_size=16,
            encoder=_stack(20, 1024, 16, 64, 256),
            decoder=_stack(20, 1024, 16, 64, 256),
            quantizer=QuantizerConfig(codes=8, dim=32),
        ),
        dynamics=DynamicsConfig(transformer=dynamics),
        sampling=SamplingConfig(maskgit_steps=25, temperature=2.0),
        precision="bfloat16",
    )
    training = TrainConfig(train_steps=train_steps, batch_size=batch_size, optimizer=WORLD_OPTIMIZER)
    return Preset(world=world, tokenizer_training=TOKENIZER_TRAINING, world_training=training)


def _scaling_row(layers: int, heads: int, width: int, head_dim: int) -> TransformerConfig:
    """Appendix D."""
    return TransformerConfig(
        layers=layers,
        width=width,
        heads=heads,
        head_dim=head_dim,
        value_dim=width // heads,
        feed_forward_width=width // 8,
    )


def _case_study() -> Preset:
    """Appendix F: CoinRun, hard, random player, on one mid-range device."""
    eight = _stack(8, 512, 8, 64, 512)
    world = WorldConfig(
        tokenizer=TokenizerConfig(
            patch_size=4, encoder=eight, decoder=eight, quantizer=QuantizerConfig(codes=1024, dim=32)
        ),
        latent_action_model=LatentActionConfig(
            patch_size=16, encoder=eight, decoder=eight, quantizer=QuantizerConfig(codes=6, dim=32)
        ),
        dynamics=DynamicsConfig(transformer=_stack(12, 512, 8, 64, 512)),
        sampling=SamplingConfig(maskgit_steps=25, temperature=1.0),
        precision="bfloat16",
    )
    return Preset(
        world=world,
        tokenizer_training=TrainConfig(
            train_steps=300_000,
            batch_size=48,
            optimizer=OptimizerConfig(learning_rate=3e-4, final_learning_rate=3e-4, warmup_steps=10_000),
        ),
        world_training=TrainConfig(train_steps=200_000, batch_size=36, optimizer=WORLD_OPTIMIZER),
    )


def _coinrun() -> Preset:
    """The shipped world: 64 tokens a frame, a size that two CPU cores train in hours and play live."""
    world = WorldConfig(
        tokenizer=TokenizerConfig(
            patch_size=8,
            encoder=_stack(2, 192, 6, 32, 384),
            decoder=_stack(4, 192, 6, 32, 384),
            quantizer=QuantizerConfig(codes=1024, dim=32, commitment_weight=1.0, decay=0.95),
        ),
        latent_action_model=LatentActionConfig(
            backbone="conv",
            quantizer=QuantizerConfig(codes=8, dim=16, commitment_weight=0.1, diversity_weight=0.2),
            width=32,
            history=3,
        ),
        dynamics=DynamicsConfig(
            transformer=_stack(6, 256, 8, 32, 512),
            action_conditioning="additive",
            min_mask_ratio=0.2,
            mask_ratio_per="frame",
            clean_frames=0.5,
            context_corruption=0.1,
        ),
        sampling=SamplingConfig(maskgit_steps=2, temperature=0.5),
        precision="auto",
    )
    optimizer = OptimizerConfig(
        learning_rate=1e-3, final_learning_rate=2e-5, schedule="wsd", warmup_steps=100, betas=(0.9, 0.95)
    )
    return Preset(
        world=world,
        tokenizer_training=TrainConfig(train_steps=2000, batch_size=8, optimizer=optimizer),
        world_training=TrainConfig(train_steps=1600, batch_size=8, optimizer=optimizer, log_every=20, picture_every=0),
    )


def _coinrun_fine() -> Preset:
    """``coinrun`` with 256 tokens a frame at about its cost: a convolutional tokenizer, squares of tokens folded.

    The tokenizer sees frame by frame, so it is trained on single frames: 64 different ones teach more than 4 clips.
    The latent action model comes before the dynamics. Its decoder moves the frame and knows the player, whom the camera
    keeps in the middle, only from the clip's start: its codes say what the player does. The dynamics learns by Muon.
    """
    coarse = _coinrun()
    tokenizer = TokenizerConfig(
        patch_size=4,
        encoder=_convolutions(2, 128),
        decoder=_convolutions(4, 128),
        quantizer=coarse.world.tokenizer.quantizer,
    )
    actions = LatentActionConfig(
        backbone="conv",
        quantizer=QuantizerConfig(codes=8, dim=16, commitment_weight=0.1, diversity_weight=0.05),
        width=16,
        history=3,
        moves=3,
        error_margin=8,
        centre=6,
        centre_weight=1.5,
    )
    world = replace(
        coarse.world,
        tokenizer=tokenizer,
        latent_action_model=actions,
        dynamics=replace(
            coarse.world.dynamics,
            transformer=_stack(6, 256, 8, 32, 512),
            fold=2,
            action_conditioning="film",
        ),
    )
    optimizer = OptimizerConfig(
        learning_rate=2e-3, final_learning_rate=4e-5, schedule="wsd", warmup_steps=100, betas=(0.9, 0.95)
    )
    training = TrainConfig(
        train_steps=4000, batch_size=64, clip_length=1, optimizer=optimizer, precision="float32", picture_every=0
    )
    by_clips = replace(coarse.world_training, precision="float32")
    muon = replace(by_clips.optimizer, kind="muon", learning_rate=3e-3)
    return replace(
        coarse,
        world=world,
        tokenizer_training=training,
        action_training=replace(by_clips, train_steps=1000),
        world_training=replace(by_clips, train_steps=6000, optimizer=muon),
    )


def _coinrun_jumps() -> Preset:
    """``coinrun-fine`` with other latent actions, which tell every jump, and which nothing is shipped with yet.

    Codes say what changes of the motion, four of them along columns and two along rows. They start late, when the
    latents know what is wanted, since a jump is one transition in twenty. The decoder always knows the player but for
    the way it faces.
    """
    fine = _coinrun_fine()
    actions = replace(
        fine.world.latent_action_model,
        quantizer=QuantizerConfig(codes=8, dim=16, levels=(4, 2), commitment_weight=0.1, start_after=250),
        accelerates=True,
        centre_shown="mirrored",
        centre_weight=0.8,
    )
    return replace(fine, world=replace(fine.world, latent_action_model=actions))


def _study() -> Preset:
    """What ``experiments`` vary: ``coinrun`` at a size of which two CPU cores train several an hour."""
    small = _stack(2, 128, 4, 32, 256)
    world = WorldConfig(
        tokenizer=TokenizerConfig(
            patch_size=8,
            encoder=small,
            decoder=small,
            quantizer=QuantizerConfig(codes=1024, dim=32, commitment_weight=1.0, decay=0.95),
        ),
        latent_action_model=LatentActionConfig(
            backbone="conv",
            quantizer=QuantizerConfig(codes=8, dim=16, commitment_weight=0.1, diversity_weight=0.2),
            width=16,
            history=3,
        ),
        dynamics=DynamicsConfig(
            transformer=_stack(4, 128, 4, 32, 256),
            min_mask_ratio=0.2,
            mask_ratio_per="frame",
            clean_frames=0.5,
            context_corruption=0.1,
        ),
        sampling=SamplingConfig(maskgit_steps=2, temperature=0.5),
    )
    optimizer = OptimizerConfig(
        learning_rate=1e-3, final_learning_rate=2e-5, schedule="wsd", warmup_steps=50, betas=(0.9, 0.95)
    )
    training = TrainConfig(
        train_steps=800, batch_size=8, optimizer=optimizer, precision="float32", log_every=25, picture_every=0
    )
    return Preset(world=world, tokenizer_training=training, world_training=training)


def _tiny() -> Preset:
    """For tests: the same parts as ``coinrun``, a few thousand weights."""
    small = _stack(1, 32, 2, 16, 32)
    world = WorldConfig(
        context_length=8,
        tokenizer=TokenizerConfig(
            patch_size=16, encoder=small, decoder=small, quantizer=QuantizerConfig(codes=64, dim=8)
        ),
        latent_action_model=LatentActionConfig(
            backbone="conv", quantizer=QuantizerConfig(codes=8, dim=8), width=8, history=2
        ),
        dynamics=DynamicsConfig(transformer=_stack(2, 32, 2, 16, 64), mask_ratio_per="frame", clean_frames=0.5),
        sampling=SamplingConfig(maskgit_steps=2),
    )
    optimizer = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, schedule="cosine", warmup_steps=5)
    training = TrainConfig(
        train_steps=20, batch_size=4, clip_length=8, optimizer=optimizer, precision="float32", picture_every=10
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
"""Appendix D: dynamics by size, all at batch 256 for 200k steps."""

PRESETS: dict[str, Preset] = {
    "tiny": _tiny(),
    "study": _study(),
    "coinrun": _coinrun(),
    "coinrun-fine": _coinrun_fine(),
    "coinrun-jumps": _coinrun_jumps(),
    "coinrun-case-study": _case_study(),
    "platformers": _paper(_scaling_row(48, 36, 5120, 128), 125_000, 512),
    "robotics": _paper(_stack(38, 2560, 20, 128, 2560), 200_000, 256),
    **{name: _paper(row, 200_000, 256) for name, row in SCALING_ROWS.items()},
    **{f"batch-{batch}": _paper(_stack(34, 2560, 20, 128, 2560), 200_000, batch) for batch in (128, 256, 448)},
}
"""Every preset by name. ``batch-*`` is the paper's batch-size study at 2.3B; ``robotics`` states 2.5B and no
sizes, so it is that study's model with four more layers."""
