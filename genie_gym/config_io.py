"""Configs to and from plain JSON values, and configs with some values replaced."""

import copy
import dataclasses
import types
import typing
from typing import Any, TypeVar

from genie_gym.checks import require
from genie_gym.configs import ConvActionConfig, LatentActionConfig, MovingActionConfig, TransformerActionConfig
from genie_gym.real_actions import RealActionConfig

Config = TypeVar("Config")

_BACKBONES = {
    "st": TransformerActionConfig,
    "conv": ConvActionConfig,
    "moving": MovingActionConfig,
    "real": RealActionConfig,
}


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Build a config of class ``kind`` from the output of ``to_dict``, of this version or of an earlier one.

    Raises:
        ValueError: Naming the path of the config within ``kind``, its class, and the field that is unknown, missing or
            has a wrong value.
    """
    return _from_dict(kind, values, "")


def _from_dict(kind: type[Config], values: Any, path: str) -> Config:
    where = f"{path}: " if path else ""
    require(isinstance(values, dict), f"{where}{kind.__name__}", values, "made of named fields")
    hints = typing.get_type_hints(kind)
    fields = sorted(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    require(not unknown, f"{where}{kind.__name__}", unknown, f"made of the fields {fields}")
    built = {name: _build(hints[name], value, f"{path}.{name}".lstrip(".")) for name, value in values.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise ValueError(f"{where}{kind.__name__}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def vary(config: Config, overrides: dict[str, Any]) -> Config:
    """Return the config with the values at dotted paths replaced: ``{"tokenizer.quantizer.codes": 512}``.

    Args:
        config: Config to copy.
        overrides: Values by path; a nested config is given as a config or as a dictionary of its fields.

    Raises:
        ValueError: If a path names no field, or the values do not fit together.
    """
    values = to_dict(config)
    for path, value in overrides.items():
        *parents, name = path.split(".")
        inner: Any = values
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        is_field = isinstance(inner, dict) and name in inner
        require(is_field, f"override of {type(config).__name__}", path, "the path of a field it has")
        inner[name] = to_dict(value) if dataclasses.is_dataclass(value) else copy.deepcopy(value)
    return from_dict(type(config), values)


def _build(hint: Any, value: Any, path: str) -> Any:
    """Convert a JSON value to the type of a config's field, which lies at ``path``."""
    if hint == LatentActionConfig | RealActionConfig:
        return _build_latent_actions(value, path)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return _from_dict(typing.cast(type, hint), value, path)
    return tuple(value) if isinstance(value, list) else value


def _build_latent_actions(values: Any, path: str) -> LatentActionConfig | RealActionConfig:
    """Build the config of the backbone that ``values`` name."""
    require(isinstance(values, dict), "latent_action_model", values, "made of named fields")
    if {"patch_size", "width"} <= set(values):
        values = _upgrade_latent_actions(values)
    backbone = _require_backbone(values.get("backbone"))
    return typing.cast(LatentActionConfig | RealActionConfig, _from_dict(_BACKBONES[backbone], values, path))


def _require_backbone(backbone: Any) -> str:
    is_known = isinstance(backbone, str) and backbone in _BACKBONES
    require(is_known, "latent_action_model.backbone", backbone, f"one of {sorted(_BACKBONES)}")
    return typing.cast(str, backbone)


def _upgrade_latent_actions(values: dict[str, Any]) -> dict[str, Any]:
    """Convert the one flat config of genie-gym 0.1, which held the fields of every backbone.

    Options that no longer exist are dropped if they affect the training loss alone (``error_unit``, ``error_margin``).
    A ``horizon`` above 1, or ``moves`` above 0, stands for a decoder that no longer exists and is refused.
    """
    horizon = values.get("horizon", 1)
    require(horizon == 1, "latent_action_model.horizon", horizon, "1: later frames are no longer predicted")
    moves = values.get("moves", 0)
    require(moves == 0, "latent_action_model.moves", moves, "0: the decoder of that version is gone")
    backbone = _require_backbone(values.get("backbone", "st"))
    fields = {field.name for field in dataclasses.fields(_BACKBONES[backbone])}
    return {name: value for name, value in values.items() if name in fields} | {"backbone": backbone}
