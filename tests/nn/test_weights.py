"""Weights to and from disk."""

from pathlib import Path

import pytest
import torch
from torch import nn

from genie_gym.nn import weights
from genie_gym.nn.weights import digest_weights, load_half, save_half


def test_there_and_back_in_half_precision(tmp_path: Path) -> None:
    module, path = nn.Linear(3, 4), tmp_path / "new" / "linear.safetensors"
    save_half(module, path)
    loaded = load_half(nn.Linear(3, 4), path)
    assert torch.equal(loaded.weight, module.weight.half().float())
    assert not loaded.weight.requires_grad
    assert not loaded.training


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_what_cannot_be_loaded_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "linear.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"linear\.safetensors.*Linear"):
        load_half(nn.Linear(3, 4), path)


def test_a_save_that_breaks_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, path = nn.Linear(3, 4), tmp_path / "linear.safetensors"
    save_half(module, path)

    def break_off(tensors: object, file: Path) -> None:
        file.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", break_off)
    with pytest.raises(OSError, match="No space"):
        save_half(nn.Linear(3, 4), path)
    assert torch.equal(load_half(nn.Linear(3, 4), path).weight, module.weight.half().float())


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    save_half(nn.Linear(3, 4), tmp_path / "linear.safetensors")
    with pytest.raises(ValueError, match="not those of a Linear"):
        load_half(nn.Linear(3, 5), tmp_path / "linear.safetensors")


def test_a_digest_follows_the_weights() -> None:
    module = nn.Linear(3, 4)
    before = digest_weights(module)
    assert digest_weights(module) == before
    with torch.no_grad():
        module.bias[0] += 1
    assert digest_weights(module) != before
