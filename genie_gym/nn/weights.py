"""Saving and loading the weights of small networks, and digests that identify weights."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from genie_gym.foreign import read_json
from genie_gym.nn.tensor_files import build_with, list_tensors, read_tensors, require_tensors
from genie_gym.system import replace_file

Module = TypeVar("Module", bound=nn.Module)


def save_half(module: nn.Module, path: Path) -> None:
    """Write a module's weights in half precision, creating the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().half().contiguous() for name, weight in module.state_dict().items()}
    write_tensors(path, weights)


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
    write_tensors(folder / "weights.safetensors", weights)
    with replace_file(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")
    return folder


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all, even if others read or write the file at the same time.

    Equal tensors and metadata give equal bytes.

    Args:
        path: File to write; an existing one is replaced.
        tensors: Tensors by name, on the CPU and contiguous.
        metadata: Texts by name.

    Raises:
        OSError: Naming the file, if it cannot be written.
    """
    with replace_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        if metadata:
            _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, which its library writes in a random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(text) == size, "the library writes no blanks either"
        file.seek(8)
        file.write(text)


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
