"""Saving and loading weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from genie_gym.nn import weights
from genie_gym.nn.weights import digest_weights, load_half, save_half


def test_weights_saved_in_half_precision_are_loaded(tmp_path: Path) -> None:
    module, path = nn.Linear(3, 4), tmp_path / "new" / "linear.safetensors"
    save_half(module, path)
    loaded = load_half(nn.Linear(3, 4), path)
    assert torch.equal(loaded.weight, module.weight.half().float())
    assert not loaded.weight.requires_grad
    assert not loaded.training


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "linear.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"linear\.safetensors"):
        load_half(nn.Linear(3, 4), path)


def test_a_failed_save_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, path = nn.Linear(3, 4), tmp_path / "linear.safetensors"
    save_half(module, path)

    def fail(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_half(nn.Linear(3, 4), path)
    assert torch.equal(load_half(nn.Linear(3, 4), path).weight, module.weight.half().float())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_half(nn.Linear(3, 4), tmp_path / "linear.safetensors")
    with pytest.raises(ValueError, match="not those of a Linear"):
        load_half(nn.Linear(3, 5), tmp_path / "linear.safetensors")


def test_a_digest_changes_with_the_weights() -> None:
    module = nn.Linear(3, 4)
    before = digest_weights(module)
    assert digest_weights(module) == before
    with torch.no_grad():
        module.bias[0] += 1
    assert digest_weights(module) != before
