"""Weights of small networks to and from disk, and what tells one set of weights from another."""

import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def save_half(module: nn.Module, path: Path) -> None:
    """Write the weights in half precision; the folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().half().contiguous() for name, weight in module.state_dict().items()}
    _replace(path, functools.partial(save_file, weights))


def load_half(module: Module, path: Path) -> Module:
    """Put weights written by ``save_half`` into ``module``, and freeze it.

    Raises:
        ValueError: If the file is missing, damaged, or of another network.
    """
    try:
        module.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"weights {str(path)!r} are not those of a {type(module).__name__}: {error}") from error
    return module.eval().requires_grad_(False)


def save_described(module: nn.Module, folder: Path, about: dict[str, Any]) -> Path:
    """Write ``weights.safetensors``, and ``about`` as ``config.json``; returns the folder, made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in module.state_dict().items()}
    _replace(folder / "weights.safetensors", functools.partial(save_file, weights))
    _replace(folder / "config.json", lambda path: path.write_text(json.dumps(about, indent=1) + "\n"))
    return folder


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write the file whole or not at all, whoever reads or writes it at the same time."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write(beside)
    os.replace(beside, path)


def read_description(folder: Path, what: str, version: int) -> dict[str, Any]:
    """What ``save_described`` was told about the weights in ``folder``.

    Raises:
        ValueError: If it cannot be read, or its ``format`` is not ``version``.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{what} {str(folder)!r} has no config that can be read: {error}") from error
    if about.get("format") != version:
        raise ValueError(f"{what} {str(folder)!r} must have format {version}, got {about.get('format')!r}")
    return about


def load_described(module: Module, folder: Path, what: str) -> Module:
    """Put the weights in ``folder`` into ``module``, and freeze it.

    Raises:
        ValueError: If they are missing, damaged, or of another network.
    """
    try:
        module.load_state_dict(load_file(folder / "weights.safetensors"))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"weights of {what} {str(folder)!r} do not fit its config: {error}") from error
    return module.eval().requires_grad_(False)


def digest_weights(module: nn.Module) -> str:
    """64 hex digits that are the same as long as all weights are."""
    digest = hashlib.sha256()
    for name, weight in module.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
