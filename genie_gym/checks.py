"""Checks of config fields, with error messages that name the field, the rule and the value."""

import dataclasses
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring, _SHORTENED.maxother, _SHORTENED.maxtuple = 200, 200, 20
_FEATURES, _SIDE, _PATCH = (1, 1 << 16), (1, 1 << 13), (1, 1 << 10)
LIMITS: dict[str, tuple[float, float]] = {
    "TransformerConfig.layers": (1, 512),
    "TransformerConfig.width": _FEATURES,
    "TransformerConfig.heads": (1, 1 << 10),
    "TransformerConfig.head_dim": (1, 1 << 12),
    "TransformerConfig.value_dim": (1, 1 << 12),
    "TransformerConfig.feed_forward_width": (1, 1 << 18),
    "QuantizerConfig.codes": (2, 1 << 24),
    "QuantizerConfig.dim": (1, 1 << 12),
    "TokenizerConfig.patch_size": _PATCH,
    "TokenizerConfig.fold": (1, 64),
    "TransformerActionConfig.patch_size": _PATCH,
    "ConvActionConfig.width": (1, 1 << 12),
    "ConvActionConfig.history": (1, 64),
    "MovingActionConfig.width": (1, 1 << 12),
    "MovingActionConfig.history": (1, 64),
    "MovingActionConfig.moves": (1, 256),
    "MovingActionConfig.reach": _SIDE,
    "MovingActionConfig.border": (0, 1 << 13),
    "RealActionConfig.actions": (1, 1 << 16),
    "DynamicsConfig.fold": (1, 64),
    "SamplingConfig.maskgit_steps": (1, 1 << 10),
    "SamplingConfig.temperature": (1e-6, 1e6),  # beyond, nothing changes but that quotients of logits may be infinite
    "SamplingConfig.choice_temperature": (0, 1e4),
    "WorldConfig.height": _SIDE,
    "WorldConfig.width": _SIDE,
    "WorldConfig.fps": (1e-3, 1000),
    "WorldConfig.context_length": (1, 1 << 12),
    "ClassifierConfig.height": _SIDE,
    "ClassifierConfig.width": _SIDE,
    "ClassifierConfig.frames": (1, 1 << 12),
    "ClassifierConfig.channels": (1, 1 << 12),
    "PolicyConfig.context_length": (1, 1 << 12),
    "PolicyConfig.widths": (1, 1 << 12),
    "PolicyConfig.features": _FEATURES,
    "PolicyConfig.patch_size": _PATCH,
    "PolicyConfig.frame_size": _SIDE,
}
"""Field -> its least and largest value. A config may come from a stranger's file, and a world is built and played by
it. The paper's largest world has 48 layers of 5120 features."""


def require(is_met: bool, field: str, value: object, rule: str) -> None:
    """Raise ``ValueError("<field> must be <rule>, got <value>")`` unless ``is_met``; long values are shortened."""
    if not is_met:
        raise ValueError(f"{field} must be {rule}, got {_SHORTENED.repr(value)}")


def require_on_disk(field: str, path: Path) -> None:
    """Raise ``ValueError`` if a path, to read or to write, is an address of the hub."""
    is_address = path.parts[:1] == ("hf:",)
    require(not is_address, field, str(path), "on disk; genie-gym push uploads a world to the hub")


def require_paths_on_disk(command: Any) -> None:
    """Raise ``ValueError`` if a path in a dataclass, or in those inside it, is an address of the hub."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Path):
                require_on_disk(field.name, each)
            elif dataclasses.is_dataclass(each):
                require_paths_on_disk(each)


def is_integer(value: Any, least: float = -math.inf, below: float = math.inf) -> bool:
    """Return whether ``value`` is an integer in [least, below); booleans do not count."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= int(value) < below


def is_finite(value: Any) -> bool:
    """Return whether ``value`` is a number that is neither infinite nor NaN; booleans do not count."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def check_fields(
    config: Any,
    positive: str = "",
    not_negative: str = "",
    shares: str = "",
    multiples: Mapping[str, int] | None = None,
) -> None:
    """Check that a dataclass's fields hold values of their types, and the rules of the named fields and of ``LIMITS``.

    A ``float`` is finite. The rules hold for each number of a tuple, and not for None or a text, if a field may be one.

    Args:
        config: Dataclass instance.
        positive: Names of the fields that must be above 0, separated by spaces.
        not_negative: Names of the fields that must be 0 or more.
        shares: Names of the fields that must lie in [0, 1].
        multiples: Name of each field that must be a multiple of some number -> that number.

    Raises:
        ValueError: Naming the first field that breaks its rule.
    """
    for field in dataclasses.fields(config):
        name, value = f"{type(config).__name__}.{field.name}", getattr(config, field.name)
        require(_fits(field.type, value), name, value, _describe(field.type))
        given = [each for each in (value if isinstance(value, tuple) else (value,)) if is_finite(each)]
        if field.name in positive.split():
            require(all(each > 0 for each in given), name, value, "positive")
        if field.name in not_negative.split():
            require(all(each >= 0 for each in given), name, value, "0 or more")
        if field.name in shares.split():
            require(all(0 <= each <= 1 for each in given), name, value, "in [0, 1]")
        if name in LIMITS:
            least, most = LIMITS[name]
            require(all(least <= each <= most for each in given), name, value, f"in [{least}, {most}]")
        if multiples and field.name in multiples:
            require(value % multiples[field.name] == 0, name, value, f"a multiple of {multiples[field.name]}")


def _fits(hint: Any, value: Any) -> bool:
    """Return whether a value has a field's type."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint in (int, float):
        return is_integer(value, -(2**63), 2**63) if hint is int else is_finite(value)
    if origin is Literal:
        return value in options
    if origin in (typing.Union, types.UnionType):
        return any(_fits(option, value) for option in options)
    if origin is tuple:
        each = options[:1] * len(value) if isinstance(value, tuple) and options[-1] is ... else options
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, each, value))
    return not isinstance(hint, type) or isinstance(value, hint)


def _describe(hint: Any) -> str:
    """Return the rule of a field's type in words."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return f"one of {options}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, options))
    if typing.get_origin(hint) is tuple:
        count = "" if options[-1] is ... else f" of {len(options)}"
        return f"a tuple{count}, each {_describe(options[0])}"
    names = {int: "an integer of 64 bits", float: "a finite number", str: "a text", bool: "true or false"}
    return {**names, types.NoneType: "None"}.get(hint, getattr(hint, "__name__", str(hint)))
