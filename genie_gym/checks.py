"""Checks of config fields, with error messages that name the field, the rule and the value."""

import dataclasses
import math
import numbers
import reprlib
import typing
from collections.abc import Mapping
from typing import Any, Literal

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring, _SHORTENED.maxother, _SHORTENED.maxtuple = 200, 200, 20


def require(is_met: bool, field: str, value: object, rule: str) -> None:
    """Raise ``ValueError("<field> must be <rule>, got <value>")`` unless ``is_met``; long values are shortened."""
    if not is_met:
        raise ValueError(f"{field} must be {rule}, got {_SHORTENED.repr(value)}")


def is_integer(value: Any, least: float = -math.inf, below: float = math.inf) -> bool:
    """Return whether ``value`` is an integer in [least, below); booleans do not count."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= int(value) < below


def check_fields(
    config: Any,
    positive: str = "",
    not_negative: str = "",
    shares: str = "",
    multiples: Mapping[str, int] | None = None,
) -> None:
    """Check a dataclass's ``Literal`` fields and the named numeric ones.

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
        if typing.get_origin(field.type) is Literal:
            choices = typing.get_args(field.type)
            require(value in choices, name, value, f"one of {choices}")
        if field.name in positive.split():
            require(value > 0, name, value, "positive")
        if field.name in not_negative.split():
            require(value >= 0, name, value, "0 or more")
        if field.name in shares.split():
            require(0 <= value <= 1, name, value, "in [0, 1]")
        if multiples and field.name in multiples:
            require(value % multiples[field.name] == 0, name, value, f"a multiple of {multiples[field.name]}")
