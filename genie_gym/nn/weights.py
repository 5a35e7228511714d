"""Weights of small networks to and from disk, and what tells one set of weights from another."""

import hashlib
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def save_half(module: nn.Module, path: Path) -> None:
    """Write the weights in half precision; the folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.detach().half().contiguous() for name, weight in module.state_dict().items()}, path)


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


def digest_weights(module: nn.Module) -> str:
    """64 hex digits that are the same as long as all weights are."""
    digest = hashlib.sha256()
    for name, weight in module.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
