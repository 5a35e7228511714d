"""Every number of every config: what is no number, not finite, no integer or impossible is refused by its name."""

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import agents.config
import genie_gym.bench.config
import genie_gym.configs
import genie_gym.curation.config
import genie_gym.data.config
import genie_gym.metrics.config
import genie_gym.plan.config
from genie_gym.presets import PRESETS

ROOTS = [
    *PRESETS.values(),
    *agents.config.POLICIES.values(),
    agents.config.SAMPLED,
    genie_gym.bench.config.BenchConfig(),
    genie_gym.curation.config.ClassifierConfig(),
    genie_gym.curation.config.RateConfig(),
    genie_gym.data.config.RecordConfig(),
    genie_gym.data.config.ConvertConfig(),
    genie_gym.metrics.config.EvaluateConfig(),
    genie_gym.plan.config.Machine(),
]
MODULES = [inspect.getmodule(type(root)) for root in ROOTS]
UNCHECKED = {"ClipSettings", "PlanCommand", "Training"}
"""Built from a checked config; a command; options of commands."""


def walk(config: Any) -> Iterator[Any]:
    """Yield a config and all configs in it."""
    yield config
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            yield from walk(value)


def number_kind(hint: Any) -> Any:
    """Return int or float for a field of such numbers, or None for another field."""
    options = [
        hint,
        *typing.get_args(hint),
        *(each for part in typing.get_args(hint) for each in typing.get_args(part)),
    ]
    return next((kind for kind in (int, float) if kind in options), None)


CONFIGS = {type(each): each for root in ROOTS for each in walk(root)}
FIELDS = [
    pytest.param(config, field, id=f"{kind.__name__}.{field.name}")
    for kind, config in CONFIGS.items()
    for field in dataclasses.fields(kind)
    if number_kind(field.type)
]


def damage(config: Any, field: Any) -> Iterator[Any]:
    """Yield values that a field must refuse; in a field of tuples, in place of one entry, too."""
    wrong: list[Any] = [
        math.nan,
        math.inf,
        -math.inf,
        "10",
        True,
        [3],
        1j,
        -1,
        -(2**70),
        *([2.5] if number_kind(field.type) is int else []),
    ]
    wrong += [2**63] if number_kind(field.type) is int else []
    if types.NoneType not in typing.get_args(field.type):
        wrong.append(None)
    yield from wrong
    value = getattr(config, field.name)
    if isinstance(value, tuple) and value:
        yield from ((*value[:-1], each) for each in wrong)


@pytest.mark.parametrize(("config", "field"), FIELDS)
def test_a_field_of_numbers_takes_only_numbers_that_make_sense(config: Any, field: Any) -> None:
    name = f"{type(config).__name__}.{field.name}|{field.name} must"
    for value in damage(config, field):
        with pytest.raises(ValueError, match=name):
            print(value, dataclasses.replace(config, **{field.name: value}))


def test_the_configs_that_are_tested_are_all_there_are() -> None:
    found = {
        kind
        for module in MODULES
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if dataclasses.is_dataclass(kind) and kind.__module__ == getattr(module, "__name__", "")
    }
    assert {kind.__name__ for kind in found - set(CONFIGS)} == UNCHECKED
