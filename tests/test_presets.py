"""Configs: the values they refuse. Presets: their sizes and training as the paper states them."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

import genie_gym
from genie_gym.config_io import vary
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
from genie_gym.data.config import RecordConfig
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.preset_arguments import parse_with_preset
from genie_gym.presets import PRESETS, find_preset
from genie_gym.training.commands import TrainCommand

STACK = TransformerConfig(layers=1, width=8, heads=2, feed_forward_width=8)
CODES = QuantizerConfig(codes=8)
TOKENIZER = TokenizerConfig(patch_size=8, encoder=STACK, decoder=STACK, quantizer=CODES)
LAM = TransformerActionConfig(encoder=STACK, decoder=STACK, quantizer=CODES)
CONV_LAM = ConvActionConfig(quantizer=CODES)
MOVING_LAM = MovingActionConfig(quantizer=CODES)
DYNAMICS = DynamicsConfig(transformer=STACK)
WORLD = WorldConfig(tokenizer=TOKENIZER, latent_action_model=LAM, dynamics=DYNAMICS)
CONV_WORLD = dataclasses.replace(WORLD, latent_action_model=CONV_LAM)
TRAIN = TrainConfig(train_steps=1, batch_size=1)

# fmt: off
REFUSED: list[tuple[Any, str, Any]] = [
    *[(STACK, field, value) for field in ("layers", "width", "heads", "head_dim") for value in (0, -1)],
    (STACK, "feed_forward_width", 0),
    (STACK, "head_dim", 7),
    (STACK, "value_dim", 0),
    (STACK, "attention", "linear"),
    (CODES, "kind", "lfq"),
    (CODES, "codes", 1),
    (CODES, "dim", 0),
    (CODES, "restart_after", 0),
    (CODES, "decay", 1.01),
    (QuantizerConfig(kind="fsq", codes=8, levels=(2, 4)), "levels", (2, 3)),
    (QuantizerConfig(kind="fsq", codes=8, levels=(2, 4)), "levels", ()),
    (QuantizerConfig(kind="fsq", codes=8, levels=(2, 4)), "levels", (8, 1)),
    (QuantizerConfig(kind="fsq", codes=8, levels=(2, 4)), "levels", (-2, -4)),
    (TOKENIZER, "patch_size", 0),
    (TOKENIZER, "fold", 0),
    (LAM, "backbone", "mlp"),
    (LAM, "inputs", "frames"),
    (LAM, "patch_size", -16),
    (LAM, "hidden_frames", -0.1),
    *[(lam, field, value) for lam in (CONV_LAM, MOVING_LAM) for field, value in
      (("backbone", "st"), ("history", 0), ("width", 0), ("width", 12))],
    *[(MOVING_LAM, field, value) for field, value in
      (("moves", 0), ("reach", 0), ("agent_weight", -1.0), ("agent_box", "seek"), ("agent_box", (1, 2, 3)),
       ("agent_box", (0, -1, 8, 8)), ("agent_box", (0, 0, 8, 0)), ("border", "seek"), ("border", -1), ("border", 9))],
    (DYNAMICS, "action_conditioning", "cross"),
    (DYNAMICS, "mask_ratio_per", "batch"),
    (DYNAMICS, "min_mask_ratio", 1.5),
    (DYNAMICS, "clean_frames", -0.5),
    (DYNAMICS, "context_corruption", 2.0),
    *[(DYNAMICS, "fold", value) for value in (-1, 3)],
    (SamplingConfig(), "maskgit_steps", 0),
    (SamplingConfig(), "temperature", 0.0),
    (SamplingConfig(), "schedule", "square"),
    (SamplingConfig(), "order", "raster"),
    (SamplingConfig(), "choice_temperature", -1.0),
    (WORLD, "height", 0),
    *[(WORLD, "fps", value) for value in (0, -10.0)],
    (WORLD, "height", -64),
    (WORLD, "context_length", 0),
    (WORLD, "precision", "float64"),
    (CONV_WORLD, "height", 8),
    *[(WORLD, "action_names", names) for names in (("left",), ("a",) * 8, ("",) * 8, "abcdefgh")],
    (OptimizerConfig(), "learning_rate", 0.0),
    (OptimizerConfig(), "final_learning_rate", -1.0),
    (OptimizerConfig(), "clip_norm", 0.0),
    (OptimizerConfig(), "schedule", "step"),
    (OptimizerConfig(), "warmup_steps", -1),
    *[(TRAIN, field, 0) for field in ("train_steps", "batch_size", "checkpoint_every", "log_every")],
    (TRAIN, "clip_length", 0),
    (TRAIN, "precision", "float16"),
    (RecordConfig(), "mode", "memory"),
    *[(RecordConfig(), field, 0) for field in ("frames", "num_envs", "frames_per_shard")],
    *[(RecordConfig(), field, -1) for field in ("start_level", "num_levels")],
]
# fmt: on


@pytest.mark.parametrize("field", ["encoder", "decoder"])
def test_an_st_backbone_refuses_convolutions(field: str) -> None:
    with pytest.raises(ValueError, match=rf"TransformerActionConfig\.{field}\.attention must be .* got 'conv'"):
        dataclasses.replace(LAM, **{field: dataclasses.replace(STACK, attention="conv")})


def test_only_the_tokenizer_is_trained_on_single_frames() -> None:
    single = dataclasses.replace(TRAIN, clip_length=1)
    assert dataclasses.replace(PRESETS["tiny"], tokenizer_training=single).tokenizer_training == single
    for phase in ("world_training", "action_training"):
        with pytest.raises(ValueError, match=rf"Preset\.{phase}\.clip_length must be at least 2, .* got 1"):
            dataclasses.replace(PRESETS["tiny"], **{phase: single})


def test_latent_actions_from_tokens_are_not_trained_before_the_dynamics() -> None:
    tiny = PRESETS["tiny"]
    part = dataclasses.replace(LAM, inputs="tokens")
    world = dataclasses.replace(tiny.world, latent_action_model=part)
    with pytest.raises(ValueError, match=r"Preset\.action_training must be None if latent actions come from tokens"):
        dataclasses.replace(tiny, world=world, action_training=TRAIN)


@pytest.mark.parametrize(
    ("config", "field", "value"), REFUSED, ids=lambda one: type(one).__name__ if dataclasses.is_dataclass(one) else one
)
def test_a_refusal_names_field_and_value(config: Any, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        dataclasses.replace(config, **{field: value})
    assert field in str(error.value)
    assert repr(value) in str(error.value)


def test_the_dynamics_is_spatio_temporal() -> None:
    with pytest.raises(ValueError, match=r"transformer.attention must be st, got 'full'"):
        DynamicsConfig(transformer=dataclasses.replace(STACK, attention="full"))


def test_the_grid_covers_frames_of_any_size_in_whole_patches_and_folds() -> None:
    tokenizer = dataclasses.replace(TOKENIZER, patch_size=4)
    for model in (LAM, CONV_LAM):
        world = WorldConfig(height=90, width=160, tokenizer=tokenizer, latent_action_model=model, dynamics=DYNAMICS)
        assert (world.grid, world.height) == ((23, 40), 90)
    for part, whole in (("tokenizer", TOKENIZER), ("dynamics", DYNAMICS)):
        folded = dataclasses.replace(whole, fold=4)
        assert dataclasses.replace(WORLD, **{part: folded}).tokens_per_frame == 64
        assert dataclasses.replace(WORLD, height=48, **{part: folded}).grid == (8, 8)
    both = {"tokenizer": dataclasses.replace(tokenizer, fold=2), "dynamics": dataclasses.replace(DYNAMICS, fold=4)}
    assert dataclasses.replace(WORLD, height=90, **both).grid == (24, 16)


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        STACK.layers = 2  # type: ignore[misc]


def millions(kind: type[nn.Module], preset: str) -> float:
    """Return the number of parameters in millions, built on the meta device, where they take no memory."""
    with torch.device("meta"):
        model = kind(PRESETS[preset].world)
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize(
    ("preset", "stated"),
    [
        ("scaling-41m", 41),
        ("scaling-96m", 96),
        ("scaling-192m", 192),
        ("scaling-404m", 404),
        ("scaling-811m", 811),
        ("scaling-1.6b", 1600),
        ("scaling-2.7b", 2700),
        ("platformers", 10_100),
        ("robotics", 2500),
        ("batch-128", 2300),
        ("batch-256", 2300),
        ("batch-448", 2300),
    ],
)
def test_dynamics_are_as_large_as_the_papers(preset: str, stated: float) -> None:
    assert millions(MaskGITDynamics, preset) == pytest.approx(stated, rel=0.05)
    assert millions(VideoTokenizer, preset) == pytest.approx(205, rel=0.05)  # table 3, ST-ViViT


@pytest.mark.parametrize(
    ("preset", "layers", "heads", "width", "head_dim"),
    [
        ("scaling-41m", 18, 8, 512, 64),
        ("scaling-96m", 16, 16, 768, 64),
        ("scaling-192m", 20, 18, 1024, 64),
        ("scaling-404m", 21, 12, 1536, 128),
        ("scaling-811m", 20, 20, 2048, 128),
        ("scaling-1.6b", 28, 22, 2560, 128),
        ("scaling-2.7b", 36, 22, 3072, 128),
        ("platformers", 48, 36, 5120, 128),
        ("batch-256", 34, 20, 2560, 128),
    ],
)
def test_sizes_of_appendix_d(preset: str, layers: int, heads: int, width: int, head_dim: int) -> None:
    stack = PRESETS[preset].world.dynamics.transformer
    assert (stack.layers, stack.heads, stack.width, stack.head_dim) == (layers, heads, width, head_dim)


@pytest.mark.parametrize(
    ("preset", "batch_size", "train_steps"),
    [
        ("platformers", 512, 125_000),
        ("scaling-2.7b", 256, 200_000),
        ("batch-128", 128, 200_000),
        ("batch-256", 256, 200_000),
        ("batch-448", 448, 200_000),
    ],
)
def test_the_papers_training(preset: str, batch_size: int, train_steps: int) -> None:
    """Batch sizes, steps and the resulting token counts: 942 B for the largest model, 750 B in the scaling study."""
    training, world = PRESETS[preset].world_training, PRESETS[preset].world
    assert (training.batch_size, training.train_steps, training.clip_length) == (batch_size, train_steps, 16)
    assert (world.grid, world.tokens_per_frame) == ((23, 40), 920)
    tokens = batch_size * train_steps * training.clip_length * world.tokens_per_frame / 1e9
    assert {"platformers": 942, "scaling-2.7b": 750}.get(preset, tokens) == pytest.approx(tokens, rel=0.01)


@pytest.mark.parametrize("preset", ["platformers", "scaling-41m", "batch-448"])
def test_the_papers_other_models_are_those_of_appendix_c(preset: str) -> None:
    world, training = PRESETS[preset].world, PRESETS[preset].tokenizer_training
    encoder, decoder = world.tokenizer.encoder, world.tokenizer.decoder
    assert (encoder.layers, encoder.width, encoder.heads, encoder.head_dim) == (12, 512, 8, 64)
    assert (decoder.layers, decoder.width, decoder.heads, decoder.head_dim) == (20, 1024, 16, 64)
    assert (world.tokenizer.quantizer.codes, world.tokenizer.quantizer.dim, world.tokenizer.patch_size) == (1024, 32, 4)
    lam = world.latent_action_model
    assert (lam.backbone, lam.inputs, lam.patch_size) == ("st", "pixels", 16)
    assert (lam.quantizer.codes, lam.quantizer.dim, world.num_latent_actions) == (8, 32, 8)
    for stack in (lam.encoder, lam.decoder):
        assert stack is not None
        assert (stack.layers, stack.width, stack.heads) == (20, 1024, 16)
    assert (training.train_steps, training.optimizer.warmup_steps, training.optimizer.schedule) == (
        300_000,
        10_000,
        "constant",
    )
    assert_optimizers(PRESETS[preset])
    assert (world.sampling.maskgit_steps, world.sampling.temperature) == (25, 2.0)
    assert (world.dynamics.action_conditioning, world.dynamics.min_mask_ratio) == ("additive", 0.5)
    assert (world.dynamics.mask_ratio_per, world.dynamics.context_corruption) == ("sample", 0.0)


def assert_optimizers(preset: Preset) -> None:
    first, second = preset.tokenizer_training.optimizer, preset.world_training.optimizer
    assert (first.learning_rate, second.learning_rate, second.final_learning_rate) == (3e-4, 3e-5, 3e-6)
    assert (second.schedule, second.warmup_steps) == ("cosine", 5_000)
    assert {one.betas for one in (first, second)} == {(0.9, 0.9)}
    assert {one.weight_decay for one in (first, second)} == {1e-4}


def test_the_case_study_is_that_of_appendix_f() -> None:
    preset = PRESETS["coinrun-case-study"]
    world, lam = preset.world, preset.world.latent_action_model
    assert (world.height, world.width, world.context_length, world.tokens_per_frame) == (64, 64, 16, 256)
    stacks = [world.tokenizer.encoder, world.tokenizer.decoder, lam.encoder, lam.decoder, world.dynamics.transformer]
    found = [(stack.layers, stack.width, stack.heads) for stack in stacks if stack is not None]
    assert found == [(8, 512, 8)] * 4 + [(12, 512, 8)]
    assert {stack.attention for stack in stacks if stack is not None} == {"st"}
    assert (world.tokenizer.patch_size, world.tokenizer.quantizer.codes, world.tokenizer.quantizer.dim) == (4, 1024, 32)
    assert (lam.backbone, lam.inputs, lam.patch_size) == ("st", "pixels", 16)
    assert (lam.quantizer.codes, lam.quantizer.dim) == (6, 32)
    assert (world.dynamics.action_conditioning, world.dynamics.min_mask_ratio) == ("additive", 0.5)
    assert (world.dynamics.mask_ratio_per, world.dynamics.context_corruption) == ("sample", 0.0)
    assert (world.sampling.maskgit_steps, world.sampling.temperature) == (25, 1.0)
    first, second = preset.tokenizer_training, preset.world_training
    assert (first.batch_size, first.clip_length, first.train_steps) == (48, 16, 300_000)
    assert (second.batch_size, second.clip_length, second.train_steps) == (36, 16, 200_000)
    assert (first.optimizer.schedule, first.optimizer.warmup_steps) == ("constant", 10_000)
    assert_optimizers(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_can_be_built(preset: str) -> None:
    assert millions(LatentActionModel, preset) > 0
    assert PRESETS[preset].world.context_length >= PRESETS[preset].world_training.clip_length


@pytest.mark.parametrize(("preset", "size"), [("coinrun", (64, 64, None)), ("videos", (90, 160, 10))])
def test_the_presets_for_any_game_hold_no_fact_of_one_camera(preset: str, size: tuple[int, int, int | None]) -> None:
    """With the border of CoinRun's camera, the paddle of Breakout would lie outside the loss."""
    world = PRESETS[preset].world
    part = world.latent_action_model
    assert isinstance(part, MovingActionConfig)
    assert (part.agent_box, part.border, part.merged_actions) == ("find", "find", 8)
    assert (world.height, world.width, world.fps) == size


def test_tiny_is_tiny() -> None:
    world = GenieWorldModel(PRESETS["tiny"].world)
    assert sum(parameter.numel() for parameter in world.parameters()) < 300_000


def test_a_renamed_preset_is_found_under_its_old_name_with_a_warning() -> None:
    for find in (find_preset, PRESETS.__getitem__):
        with pytest.warns(FutureWarning, match="'coinrun-fine' is now called 'coinrun'"):
            assert find("coinrun-fine") is PRESETS["coinrun"]
    assert "coinrun-fine" not in PRESETS


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preset must be one of \['batch-128'.*, got 'huge'"):
        find_preset("huge")
    with pytest.raises(KeyError):
        PRESETS["huge"]


def test_the_preset_coinrun_is_the_shipped_world() -> None:
    shipped, preset = genie_gym.load("coinrun").config, PRESETS["coinrun"].world
    part = shipped.latent_action_model
    found = {name: getattr(part, name) for name in ("agent_box", "border")}  # the preset looks for them in the data
    assert part == dataclasses.replace(preset.latent_action_model, **found)
    assert shipped.tokenizer == preset.tokenizer
    assert shipped.dynamics == dataclasses.replace(preset.dynamics, own_context=0.25)  # the last steps of training


@pytest.mark.parametrize(
    "arguments",
    [
        ["tiny", "--data", "d", "--out", "o"],
        ["--data", "d", "--out", "o", "tiny"],
        ["--preset=tiny", "--data", "d", "--out", "o"],
        ["--data", "d", "--preset", "tiny", "--out", "o"],
    ],
)
def test_the_values_are_those_of_the_preset_wherever_it_stands(arguments: list[str]) -> None:
    command = parse_with_preset(TrainCommand, [*arguments, "--world.fps", "7"], "genie-gym train")
    assert command.preset == "tiny"
    assert command.config == vary(PRESETS["tiny"], {"world.fps": 7})
