"""Muon: orthogonalised updates of matrices, AdamW for the rest, and resuming from a saved state."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from genie_gym.configs import OptimizerConfig
from genie_gym.training.muon import MOMENTUM, UPDATE_RMS, orthogonalize
from genie_gym.training.optim import build_optimizer

RATE = 0.01


@pytest.fixture
def module() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.Linear(10, 4, bias=False), nn.Embedding(5, 4))


def build(module: nn.Module, kind: str, **fields: Any) -> torch.optim.AdamW:
    config = OptimizerConfig(kind=kind, learning_rate=RATE, weight_decay=0.0, **fields)  # type: ignore[arg-type]
    return build_optimizer(module, config)


def give_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(20, 20), (12, 30), (30, 12)])
def test_orthogonalising_keeps_singular_vectors_and_evens_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonalize(matrix[None])[0] @ right.T
    assert 0.6 < inner.diagonal().min() <= inner.diagonal().max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4
    assert orthogonalize(torch.zeros(2, *shape)).abs().max() == 0


def test_products_in_bfloat16_orthogonalise_nearly_as_well() -> None:
    matrices = torch.randn(2, 24, 40, generator=torch.Generator().manual_seed(0))
    exact, rounded = orthogonalize(matrices), orthogonalize(matrices, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.03 * exact.norm()


def test_muon_iterates_in_the_precision_of_the_training(module: nn.Module) -> None:
    config = OptimizerConfig(kind="muon", learning_rate=RATE, weight_decay=0.0)
    moved = []
    for precision in ("float32", "bfloat16"):
        own = copy.deepcopy(module)
        optimizer = build_optimizer(own, config, precision)
        give_gradients(own, 0)
        optimizer.step()
        moved.append(own[0].weight.detach())
        assert moved[-1].dtype == torch.float32
    assert not torch.equal(*moved)
    assert torch.allclose(*moved, atol=0.05 * RATE)


def test_muon_updates_linear_weights_and_adamw_the_rest(module: nn.Module) -> None:
    twin, before = copy.deepcopy(module), copy.deepcopy(module.state_dict())
    for trained, kind in ((module, "muon"), (twin, "adamw")):
        optimizer = build(trained, kind)
        for seed in range(3):
            give_gradients(trained, seed)
            optimizer.step()
    for name, weight in module.named_parameters():
        assert torch.equal(weight, twin.get_parameter(name)) == (name not in ("0.weight", "2.weight")), name
        assert not torch.equal(weight, before[name])


def test_one_update_by_hand(module: nn.Module) -> None:
    before, optimizer = module[0].weight.detach().clone(), build(module, "muon")
    give_gradients(module, 0)
    gradient = module[0].weight.grad.clone()
    optimizer.step()
    mixed = (1 - MOMENTUM) * gradient + MOMENTUM * (1 - MOMENTUM) * gradient
    wanted = before - RATE * UPDATE_RMS * 10**0.5 * orthogonalize(mixed[None])[0]
    torch.testing.assert_close(module[0].weight.detach(), wanted)
    optimizer.step()  # whose gradients were set to None
    torch.testing.assert_close(module[0].weight.detach(), wanted)


def test_muon_conv_updates_kernels_as_matrices() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(4, 4))
    before = copy.deepcopy(module.state_dict())
    for kind in ("muon-conv", "muon"):
        module.load_state_dict(before)
        optimizer = build(module, kind)
        give_gradients(module, 0)
        gradient = module[0].weight.grad.clone()
        optimizer.step()
        mixed = MOMENTUM * (1 - MOMENTUM) * gradient + (1 - MOMENTUM) * gradient
        update = UPDATE_RMS * 27**0.5 * orthogonalize(mixed.flatten(1)[None])[0].view(8, 3, 3, 3)
        moved = (before["0.weight"] - module[0].weight) / RATE
        assert torch.allclose(moved, update, atol=1e-4) == (kind == "muon-conv")


def test_training_resumes_from_a_saved_state(module: nn.Module) -> None:
    optimizer = build(module, "muon")
    give_gradients(module, 0)
    optimizer.step()
    twin = copy.deepcopy(module)
    other = build(twin, "muon")
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for trained, each in ((module, optimizer), (twin, other)):
        give_gradients(trained, 1)
        each.step()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))


def test_frozen_weights_do_not_change(module: nn.Module) -> None:
    module[0].requires_grad_(False)
    before, optimizer = module[0].weight.clone(), build(module, "muon")
    for parameter in module[2:].parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(module[0].weight, before)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of \('adamw', 'muon', 'muon-conv'\), got 'sgd'"):
        OptimizerConfig(kind="sgd")  # type: ignore[arg-type]
