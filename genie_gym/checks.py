"""Checks of config fields, with error messages that name the field, the rule and the value."""

import dataclasses
import math
import numbers
import reprlib
import types
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


def is_finite(value: Any) -> bool:
    """Return whether ``value`` is a number that is neither infinite nor NaN; booleans do not count."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def check_fields(
    config: Any,
    positive: str = "",
    not_negative: str = "",
    shares: str = "",
    multiples: Mapping[str, int] | None = None,
) -> None:
    """Check that a dataclass's ``int``, ``float`` and ``Literal`` fields hold such values, and the rules of the named.

    A ``float`` is finite. The rules hold for each number of a tuple, and not for a value of None, if a field has it.

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
        given = [each for each in (value if isinstance(value, tuple) else (value,)) if each is not None]
        if field.name in positive.split():
            require(all(each > 0 for each in given), name, value, "positive")
        if field.name in not_negative.split():
            require(all(each >= 0 for each in given), name, value, "0 or more")
        if field.name in shares.split():
            require(all(0 <= each <= 1 for each in given), name, value, "in [0, 1]")
        if multiples and field.name in multiples:
            require(value % multiples[field.name] == 0, name, value, f"a multiple of {multiples[field.name]}")


def _fits(hint: Any, value: Any) -> bool:
    """Return whether a value has a field's type, as far as numbers, choices, their tuples and None are concerned."""
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
    return value is None if hint is types.NoneType else True


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
    return {int: "an integer of 64 bits", float: "a finite number", str: "a text", types.NoneType: "None"}.get(
        hint, str(hint)
    )
