"""Python objects named by strings: ``module:name``, ``NAME(ARGUMENTS)`` or ``FILE.py:NAME(ARGUMENTS)``."""

import functools
import importlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_CALL = re.compile(r"(?P<name>[^()]+?)(\((?P<arguments>[^()]*)\))?")


def find_function(field: str, function: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return ``function`` unchanged, or import it if it is the string ``"module:name"``.

    Args:
        field: Name of the argument in errors.
        function: Function or its name. An environment made with the name has a JSON-able ``env.spec``.

    Raises:
        ValueError: If there is no such function; the message names ``field`` and the value.
    """
    found: Any = function
    if isinstance(function, str) and ":" in function:
        module, _, attribute = function.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:  # ValueError: no module before the colon
            raise ValueError(f"{field} {function!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f'{field} must be a callable or the "module:name" of one, got {function!r}')
    return found


def describe_failure(error: Exception) -> str:
    """Return an error of somebody else's code in one line: its kind, its message, and where it was raised."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {error}{where}"


def build_from_spec(field: str, spec: str, known: Mapping[str, Callable[..., Any]], **optional: Any) -> Any:
    """Call the factory that ``spec`` names and return what it builds.

    Args:
        field: Name of the option in errors.
        spec: A name in ``known``, or ``FILE.py:NAME`` for any function of a Python file. Arguments may follow in
            brackets; those that read as numbers are passed as numbers, the others as strings.
        known: Factories by name.
        **optional: Keyword arguments passed to factories that take them.

    Raises:
        ValueError: If there is no such factory, or it does not take these arguments.
    """
    path, colon, call = spec.rpartition(":")
    match = _CALL.fullmatch(call)
    if match is None:
        names = "".join(f"{name}, " for name in known)
        raise ValueError(f"{field} must be {names}or FILE.py:FACTORY(ARGUMENTS), got {spec!r}")
    factory = getattr(_load_module(field, Path(path)), match["name"], None) if colon else known.get(match["name"])
    if not callable(factory):
        raise ValueError(f"{field} {spec!r}: there is no {match['name']!r} in {path or ', '.join(known)}")
    arguments = _read_arguments(match["arguments"])
    taken = inspect.signature(factory).parameters
    factory = functools.partial(factory, **{name: value for name, value in optional.items() if name in taken})
    try:
        inspect.signature(factory).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"{field} {spec!r}: {error}") from error
    return factory(*arguments)


def maybe_number(text: str) -> str | float:
    """Convert a text to int, or else to float, if it reads as one; return other texts unchanged."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read_arguments(text: str | None) -> list[str | float]:
    parts = [part.strip().strip("'\"") for part in (text or "").split(",")]
    return [maybe_number(part) for part in parts if part]


def _load_module(field: str, path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{field} file must be a Python file, got {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"genie_gym_{field}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
