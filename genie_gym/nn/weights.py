"""Saving and loading the weights of small networks, and digests that identify weights."""

import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save_file
from torch import nn

from genie_gym.foreign import read_json
from genie_gym.nn.tensor_files import build_with, list_tensors, read_tensors, require_tensors

Module = TypeVar("Module", bound=nn.Module)


def save_half(module: nn.Module, path: Path) -> None:
    """Write a module's weights in half precision, creating the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().half().contiguous() for name, weight in module.state_dict().items()}
    _replace(path, functools.partial(save_file, weights))


def load_half(module: Module, path: Path) -> Module:
    """Load weights that ``save_half`` wrote into ``module``, freeze it, and return it.

    Raises:
        ValueError: If the file is missing, damaged, or belongs to another network.
    """
    what = f"weights {str(path)!r} are not those of a {type(module).__name__}"
    require_tensors(what, list_tensors(path), module.state_dict())
    module.load_state_dict(read_tensors(path))
    return module.eval().requires_grad_(False)


def save_described(module: nn.Module, folder: Path, about: dict[str, Any]) -> Path:
    """Write ``weights.safetensors`` and ``config.json`` (``about``) to ``folder``, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in module.state_dict().items()}
    _replace(folder / "weights.safetensors", functools.partial(save_file, weights))
    _replace(folder / "config.json", lambda path: path.write_text(json.dumps(about, indent=1) + "\n"))
    return folder


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all, even if others read or write it at the same time."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write(beside)
    os.replace(beside, path)


def read_description(folder: Path, what: str, version: int) -> dict[str, Any]:
    """Return the ``about`` that ``save_described`` wrote to ``folder``; errors call the network ``what``.

    Raises:
        ValueError: If it cannot be read, is no object, or its ``format`` is not ``version``.
    """
    try:
        about = read_json(folder / "config.json")
    except ValueError as error:
        raise ValueError(f"{what} {str(folder)!r} has no config that can be read: {error}") from error
    found = about.get("format") if isinstance(about, dict) else about
    if type(found) is not int or found != version:
        raise ValueError(f"{what} {str(folder)!r} must have format {version}, got {found!r:.100}")
    return about


def load_described(build: Callable[[], Module], folder: Path, what: str) -> Module:
    """Build a module and load the weights that ``save_described`` wrote, frozen; errors call the module ``what``.

    Raises:
        ValueError: If they are missing, damaged, or belong to another network.
    """
    path = folder / "weights.safetensors"
    return build_with(build, path, f"weights of {what} {str(folder)!r} do not fit its config")


def digest_weights(module: nn.Module) -> str:
    """Return 64 hex digits that change with any weight or its name."""
    digest = hashlib.sha256()
    for name, weight in module.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
