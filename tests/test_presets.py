"""Configs: what they refuse, and how they travel. Presets: what the paper says of them."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import nn

from genie_gym.configs import (
    DynamicsConfig,
    LatentActionConfig,
    OptimizerConfig,
    Preset,
    QuantizerConfig,
    RecordConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainConfig,
    TransformerConfig,
    WorldConfig,
    from_dict,
    to_dict,
    vary,
)
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS

STACK = TransformerConfig(layers=1, width=8, heads=2, feed_forward_width=8)
CODES = QuantizerConfig(codes=8)
TOKENIZER = TokenizerConfig(patch_size=8, encoder=STACK, decoder=STACK, quantizer=CODES)
LAM = LatentActionConfig(encoder=STACK, decoder=STACK, quantizer=CODES)
CONV_LAM = LatentActionConfig(backbone="conv", quantizer=CODES)
DYNAMICS = DynamicsConfig(transformer=STACK)
WORLD = WorldConfig(tokenizer=TOKENIZER, latent_action_model=LAM, dynamics=DYNAMICS)
CONV_WORLD = dataclasses.replace(WORLD, latent_action_model=CONV_LAM)
TRAIN = TrainConfig(train_steps=1, batch_size=1)

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
    (LAM, "error_unit", "frame"),
    (LAM, "encoder", None),
    (LAM, "decoder", None),
    (LAM, "patch_size", -16),
    (LAM, "hidden_frames", -0.1),
    (LAM, "history", 0),
    (LAM, "horizon", 0),
    (dataclasses.replace(LAM, inputs="tokens"), "horizon", 2),
    (dataclasses.replace(LAM, inputs="tokens"), "error_margin", 4),
    (LAM, "error_margin", -1),
    (LAM, "moves", 2),
    (CONV_LAM, "moves", -1),
    (CONV_LAM, "reach", 0),
    (CONV_LAM, "centre", 8),
    (CONV_LAM, "accelerates", True),
    (CONV_LAM, "centre_shown", "last"),
    *[(dataclasses.replace(CONV_LAM, moves=2), "centre", value) for value in (-2, 7)],
    (dataclasses.replace(CONV_LAM, moves=2), "centre_weight", -1.0),
    (dataclasses.replace(CONV_LAM, moves=2), "horizon", 2),
    (CONV_LAM, "inputs", "tokens"),
    (CONV_LAM, "width", 0),
    (CONV_LAM, "width", 12),
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
    (WORLD, "width", 60),
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


@pytest.mark.parametrize("field", ["encoder", "decoder"])
def test_an_st_backbone_is_not_made_of_convolutions(field: str) -> None:
    with pytest.raises(ValueError, match=rf"LatentActionConfig\.{field}\.attention must be .* got 'conv'"):
        dataclasses.replace(LAM, **{field: dataclasses.replace(STACK, attention="conv")})


def test_single_frames_hold_no_transition() -> None:
    """They do for a tokenizer."""
    single = dataclasses.replace(TRAIN, clip_length=1)
    assert dataclasses.replace(PRESETS["tiny"], tokenizer_training=single).tokenizer_training == single
    for phase in ("world_training", "action_training"):
        with pytest.raises(ValueError, match=rf"Preset\.{phase}\.clip_length must be at least 2, .* got 1"):
            dataclasses.replace(PRESETS["tiny"], **{phase: single})


def test_actions_of_tokens_do_not_come_first() -> None:
    """Before the tokenizer is frozen there are none."""
    tiny = PRESETS["tiny"]
    part = dataclasses.replace(LAM, inputs="tokens")
    world = dataclasses.replace(tiny.world, latent_action_model=part)
    with pytest.raises(ValueError, match=r"Preset\.action_training must be None on tokens"):
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


def test_a_convolutional_world_has_sides_it_can_halve() -> None:
    tokenizer = dataclasses.replace(TOKENIZER, patch_size=4)
    with pytest.raises(ValueError, match=r"WorldConfig.height must be .*, got 92"):
        WorldConfig(height=92, tokenizer=tokenizer, latent_action_model=CONV_LAM, dynamics=DYNAMICS)
    assert WorldConfig(height=92, tokenizer=tokenizer, latent_action_model=LAM, dynamics=DYNAMICS).grid == (23, 16)


def test_folded_places_fill_the_grid() -> None:
    for part, whole in (("tokenizer", TOKENIZER), ("dynamics", DYNAMICS)):
        folded = dataclasses.replace(whole, fold=4)
        assert dataclasses.replace(WORLD, **{part: folded}).tokens_per_frame == 64
        with pytest.raises(ValueError, match=r"Config.fold must be a divisor of the grid \(6, 8\), got 4"):
            dataclasses.replace(WORLD, height=48, **{part: folded})


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        STACK.layers = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", PRESETS)
def test_there_and_back(name: str) -> None:
    """By way of JSON, which knows no tuples."""
    preset = PRESETS[name]
    assert from_dict(Preset, to_dict(preset)) == preset
    assert from_dict(Preset, json.loads(json.dumps(to_dict(preset)))) == preset


def test_every_kind_of_field_travels() -> None:
    quantizer = QuantizerConfig(kind="fsq", codes=8, levels=(2, 4))
    world = dataclasses.replace(WORLD, latent_action_model=dataclasses.replace(CONV_LAM, quantizer=quantizer))
    back = from_dict(WorldConfig, json.loads(json.dumps(to_dict(world))))
    assert back == world
    assert isinstance(back.latent_action_model.quantizer.levels, tuple)
    record = RecordConfig(game="maze", seed=3)
    assert from_dict(RecordConfig, json.loads(json.dumps(to_dict(record)))) == record


def edited(path: str, value: Any) -> dict[str, Any]:
    values = to_dict(WORLD)
    *parents, field = path.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    inner[field] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("colour", 3, r"WorldConfig must be .*height.*, got \['colour'\]"),
        ("dynamics.transformer.depth", 3, r"TransformerConfig must be .*layers.*, got \['depth'\]"),
        ("tokenizer", 3, "TokenizerConfig must be made of named fields, got 3"),
        ("tokenizer.encoder", None, "TransformerConfig must be made of named fields, got None"),
        ("tokenizer.patch_size", 0, "TokenizerConfig.patch_size must be positive, got 0"),
        ("tokenizer.patch_size", "eight", "TokenizerConfig: .*str"),
    ],
)
def test_what_a_dictionary_may_not_hold(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(WorldConfig, edited(path, value))


def test_a_missing_field_is_named() -> None:
    values = to_dict(STACK)
    del values["width"]
    with pytest.raises(ValueError, match=r"TransformerConfig: .*width"):
        from_dict(TransformerConfig, values)


def millions(kind: type[nn.Module], preset: str) -> float:
    """Parameters of a model on the meta device, where they take no memory."""
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
def test_dynamics_as_large_as_the_papers(preset: str, stated: float) -> None:
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
    """Batches, and the token counts that follow: 942 B for the largest model, 750 B for the scaling study's."""
    training, world = PRESETS[preset].world_training, PRESETS[preset].world
    assert (training.batch_size, training.train_steps, training.clip_length) == (batch_size, train_steps, 16)
    assert (world.grid, world.tokens_per_frame) == ((23, 40), 920)
    tokens = batch_size * train_steps * training.clip_length * world.tokens_per_frame / 1e9
    assert {"platformers": 942, "scaling-2.7b": 750}.get(preset, tokens) == pytest.approx(tokens, rel=0.01)


@pytest.mark.parametrize("preset", ["platformers", "scaling-41m", "batch-448"])
def test_the_papers_other_models(preset: str) -> None:
    """Appendix C.1 and C.2."""
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


def test_the_case_study_to_the_letter() -> None:
    """Appendix F."""
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


def test_tiny_is_tiny() -> None:
    world = GenieWorldModel(PRESETS["tiny"].world)
    assert sum(parameter.numel() for parameter in world.parameters()) < 300_000


def test_a_config_is_varied_at_its_paths() -> None:
    varied = vary(PRESETS["tiny"].world, {"tokenizer.quantizer.codes": 32, "dynamics.action_conditioning": "film"})
    assert varied.tokenizer.quantizer.codes == 32
    assert varied.dynamics.action_conditioning == "film"
    assert PRESETS["tiny"].world.tokenizer.quantizer.codes == 64
    assert (
        vary(varied, {"tokenizer.quantizer.codes": 64, "dynamics.action_conditioning": "additive"})
        == PRESETS["tiny"].world
    )


@pytest.mark.parametrize("path", ["tokenizer.colour", "tokenizer.patch_size.half", "paint"])
def test_a_path_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=path):
        vary(PRESETS["tiny"].world, {path: 1})
