"""Functions as make-keywords: given as such, or by name so that ``env.spec`` stays JSON-able."""

import importlib
from collections.abc import Callable
from typing import Any


def find_function(field: str, function: Callable[..., Any] | str) -> Callable[..., Any]:
    """The function itself, or the one that ``"module:name"`` names.

    Raises:
        ValueError: Naming ``field`` and what was given for it.
    """
    if isinstance(function, str):
        return _import_function(field, function)
    if not callable(function):
        raise ValueError(f'{field} must be a callable or "module:name", got {function!r}')
    return function


def _import_function(field: str, name: str) -> Callable[..., Any]:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f'{field} must be a callable or "module:name", got {name!r}')
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{field} names {name!r}, which cannot be imported: {error}") from error
    if not callable(function):
        raise ValueError(f"{field} names {name!r}, which is no function but {function!r}")
    return function
