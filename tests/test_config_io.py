"""Configs to and from JSON, of this version and of earlier ones, and configs with some values replaced."""

import dataclasses
import json
from typing import Any

import pytest

from genie_gym.config_io import from_dict, to_dict, vary
from genie_gym.configs import (
    ConvActionConfig,
    LatentActionConfig,
    MovingActionConfig,
    Preset,
    QuantizerConfig,
    TransformerActionConfig,
    TransformerConfig,
    WorldConfig,
)
from genie_gym.data.config import RecordConfig
from genie_gym.presets import PRESETS

WORLD = PRESETS["tiny"].world
STACK = WORLD.tokenizer.encoder
FLAT: dict[str, Any] = {
    "backbone": "conv",
    "inputs": "pixels",
    "quantizer": to_dict(QuantizerConfig(codes=8)),
    "patch_size": 16,
    "encoder": None,
    "decoder": None,
    "hidden_frames": 0.0,
    "width": 16,
    "history": 2,
    "error_unit": "log",
    "horizon": 1,
    "moves": 0,
    "reach": 6,
    "accelerates": False,
    "error_margin": 4,
    "centre": 0,
    "centre_shown": "first",
    "centre_weight": 1.0,
}
"""The latent action model as genie-gym 0.1 wrote it: one config for all backbones."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name: str) -> None:
    """JSON has no tuples: lists become tuples again."""
    preset = PRESETS[name]
    assert from_dict(Preset, to_dict(preset)) == preset
    assert from_dict(Preset, json.loads(json.dumps(to_dict(preset)))) == preset


def test_every_kind_of_field_survives_json() -> None:
    quantizer = QuantizerConfig(kind="fsq", codes=8, levels=(2, 4))
    world = dataclasses.replace(WORLD, latent_action_model=ConvActionConfig(quantizer=quantizer))
    back = from_dict(WorldConfig, json.loads(json.dumps(to_dict(world))))
    assert back == world
    assert isinstance(back.latent_action_model.quantizer.levels, tuple)
    record = RecordConfig(game="maze", seed=3)
    assert from_dict(RecordConfig, json.loads(json.dumps(to_dict(record)))) == record


def edited(path: str, value: Any) -> dict[str, Any]:
    """Return the world's dictionary with one value replaced."""
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
        ("latent_action_model", 3, "latent_action_model must be made of named fields, got 3"),
        ("latent_action_model.backbone", "mlp", "latent_action_model.backbone must be one of .* got 'mlp'"),
        ("latent_action_model.moves", 3, r"ConvActionConfig must be .*, got \['moves'\]"),
        ("tokenizer.encoder", None, "TransformerConfig must be made of named fields, got None"),
        ("tokenizer.patch_size", 0, "TokenizerConfig.patch_size must be positive, got 0"),
        ("tokenizer.patch_size", "eight", "TokenizerConfig.patch_size must be an integer of 64 bits, got 'eight'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(WorldConfig, edited(path, value))


def test_a_missing_field_is_named() -> None:
    values = to_dict(STACK)
    del values["width"]
    with pytest.raises(ValueError, match=r"TransformerConfig: .*width"):
        from_dict(TransformerConfig, values)


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
def test_a_path_without_a_field_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=path):
        vary(PRESETS["tiny"].world, {path: 1})


def test_a_nested_config_is_replaced_whole() -> None:
    moving = MovingActionConfig(quantizer=QuantizerConfig(codes=8), width=8)
    varied = vary(WORLD, {"latent_action_model": moving, "latent_action_model.moves": 2})
    assert varied.latent_action_model == dataclasses.replace(moving, moves=2)
    assert vary(WORLD, {"latent_action_model": to_dict(moving)}).latent_action_model == moving


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ConvActionConfig(quantizer=QuantizerConfig(codes=8), width=16, history=2)),
        (
            {"backbone": "st", "encoder": to_dict(STACK), "decoder": to_dict(STACK), "hidden_frames": 0.5},
            TransformerActionConfig(
                quantizer=QuantizerConfig(codes=8), encoder=STACK, decoder=STACK, hidden_frames=0.5
            ),
        ),
    ],
)
def test_a_flat_config_of_an_earlier_version_is_upgraded(changes: dict[str, Any], expected: LatentActionConfig) -> None:
    values = json.loads(json.dumps({**to_dict(WORLD), "latent_action_model": {**FLAT, **changes}}))
    assert from_dict(WorldConfig, values).latent_action_model == expected


@pytest.mark.parametrize(("field", "value", "wanted"), [("horizon", 3, 1), ("moves", 2, 0)])
def test_a_removed_option_that_changes_the_weights_is_refused(field: str, value: int, wanted: int) -> None:
    values = {**to_dict(WORLD), "latent_action_model": {**FLAT, field: value}}
    with pytest.raises(ValueError, match=rf"latent_action_model.{field} must be {wanted}: .*, got {value}"):
        from_dict(WorldConfig, values)
