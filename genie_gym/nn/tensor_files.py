"""Reading safetensors files of others: names, types and shapes first, and numbers only if they fit and are finite."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import load, load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genie_gym.foreign import explain_head

_Module = TypeVar("_Module", bound=nn.Module)
_HEADER_BYTES = 1 << 24
"""Largest size of the part of a file that lists its tensors."""
_SHOWN = 3
"""Number of faults that an error lists."""
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
_ELEMENTWISE = {"mul", "__mul__", "__rmul__", "__floordiv__", "floor_divide", "normalize", "cumprod"}
"""Operations by which models compute their first weights from random numbers, of the same shape and type."""
_TYPES = {**_FLOATS, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
"""Name of a type in the format -> type of torch, for the types that are read."""


class StoredTensor(NamedTuple):
    """What a file says about a tensor."""

    shape: tuple[int, ...]
    """its shape"""
    type: str
    """its type, as the format names it"""


def list_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name, without reading their numbers.

    Raises:
        ValueError: Naming the file and what it is, if it is not a whole safetensors file.
    """
    if what := explain_head(path):
        raise ValueError(f"weights {str(path)!r} are damaged: the file is {what}")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > min(_HEADER_BYTES, path.stat().st_size):
            raise ValueError(f"weights {str(path)!r} are damaged: the file is cut short, or no safetensors file")
        with safe_open(path, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {name: StoredTensor(tuple(each.get_shape()), each.get_dtype()) for name, each in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights {str(path)!r} are damaged: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ValueError: Naming the file, and a tensor whose type is not read or that holds NaN or infinity.
    """
    what = f"weights {str(path)!r}"
    _require_types(what, {name: stored.type for name, stored in list_tensors(path).items()})
    try:
        return _require_finite(what, load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{what} are damaged: {error}") from error


def unpack_tensors(data: bytes, what: str) -> dict[str, Tensor]:
    """Return the tensors of a file that is given as its bytes; ``ValueError``, which begins with ``what``, as above."""
    try:
        _require_types(what, {name: stored["dtype"] for name, stored in deserialize(data)})
        return _require_finite(what, load(data))
    except SafetensorError as error:
        raise ValueError(f"{what} are damaged: {error}") from error


def _require_types(what: str, types: Mapping[str, str]) -> None:
    for name, kind in types.items():
        if kind not in _TYPES:
            raise ValueError(f"{what}: {name} must be one of {', '.join(_TYPES)}, got {kind}")


def _require_finite(what: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{what}: {name} must be finite, got NaN or infinity")
    return tensors


def require_tensors(what: str, found: Mapping[str, StoredTensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError``, which begins with ``what``, unless the tensors found have the wanted names and shapes.

    Floating-point tensors may be stored in another precision; other types must be the same.

    Args:
        what: Subject of the message, such as "weights of policy 'runs/a' do not fit its config".
        found: Stored tensors by name.
        wanted: Tensors of the module by name; on the meta device they take no memory.
    """
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is unknown" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        tensor, stored = wanted[name], found[name]
        if tuple(tensor.shape) != stored.shape:
            faults.append(f"{name} must be {tuple(tensor.shape)}, got {stored.shape}")
        elif not (stored.type in _FLOATS if tensor.is_floating_point() else _TYPES.get(stored.type) == tensor.dtype):
            faults.append(f"{name} must be {str(tensor.dtype).removeprefix('torch.')}, got {stored.type}")
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if faults[_SHOWN:] else ""
        raise ValueError(f"{what}: {', '.join(sorted(faults)[:_SHOWN])}{more}")


def build_with(build: Callable[[], _Module], path: Path, what: str) -> _Module:
    """Build a module and load a file's weights into it, in its own precision; frozen.

    Its sizes are compared with the file's before anything is allocated for it.

    Args:
        build: Function that builds the module.
        path: File of its weights.
        what: Subject of the error, as for ``require_tensors``.

    Raises:
        ValueError: If the file is missing, damaged, or belongs to another module.
    """
    require_tensors(what, list_tensors(path), build_on_meta(build).state_dict())
    module = build()
    module.load_state_dict(read_tensors(path))
    return module.eval().requires_grad_(False)


class _ShapesAlone(TorchFunctionMode):
    """Skip arithmetic on the meta device, for which torch would load its compiler: a second and a half."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        tensor = next((each for each in (*args, *(kwargs or {}).values()) if isinstance(each, Tensor)), None)
        if tensor is not None and tensor.is_meta:
            if name.endswith("_") and not name.endswith("__"):  # in place, such as zero_ and normal_
                return tensor
            if name in _ELEMENTWISE:
                return torch.empty_like(tensor)
        return func(*args, **(kwargs or {}))


def build_on_meta(build: Callable[[], _Module]) -> _Module:
    """Build a module whose tensors have shapes and no memory; ``ValueError`` if a shape is beyond all bounds."""
    try:
        with torch.device("meta"), _ShapesAlone():
            return build()
    except (RuntimeError, OverflowError) as error:
        raise ValueError(f"sizes must be such that torch can count the weights, got {error}") from error
