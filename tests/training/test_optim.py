"""Learning rates by hand, weight decay, and gradient clipping per child."""

import math

import pytest
import torch
from torch import nn

from genie_gym.configs import OptimizerConfig
from genie_gym.training.optim import build_optimizer, clip_gradients, learning_rate


def rates(schedule: str, steps: list[int], train_steps: int = 101, warmup: int = 10) -> list[float]:
    config = OptimizerConfig(
        learning_rate=1.0, final_learning_rate=0.1, schedule=schedule, warmup_steps=warmup  # type: ignore[arg-type]
    )  # fmt: skip
    return [learning_rate(step, train_steps, config) for step in steps]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
def test_warm_up_is_linear(schedule: str) -> None:
    assert rates(schedule, [0, 4, 9]) == pytest.approx([0.1, 0.5, 1.0])
    assert rates(schedule, [0], warmup=0) == pytest.approx([1.0])


def test_the_constant_schedule() -> None:
    assert rates("constant", [10, 50, 100]) == [1.0, 1.0, 1.0]


def test_the_cosine_schedule() -> None:
    """The rate falls from the peak after warm-up to the final rate at the last step, half way in the middle."""
    quarter = 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2
    assert rates("cosine", [10, 32, 55, 100], train_steps=101) == pytest.approx([1.0, quarter, 0.55, 0.1], abs=0.01)
    assert rates("cosine", [100])[0] == pytest.approx(0.1)
    falling = rates("cosine", list(range(10, 101)))
    assert falling == sorted(falling, reverse=True)


def test_the_warm_up_stable_decay_schedule() -> None:
    """The rate is flat for four fifths of training, then linear down to the final rate at the last step."""
    assert rates("wsd", [10, 50, 80, 90, 95, 100]) == pytest.approx([1.0, 1.0, 1.0, 0.55, 0.325, 0.1])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
@pytest.mark.parametrize("train_steps", [1, 2, 5])
def test_short_runs_have_rates_too(schedule: str, train_steps: int) -> None:
    for warmup in (0, 1, 10):
        for rate in rates(schedule, list(range(train_steps)), train_steps, warmup):
            assert 0 < rate <= 1


def test_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 1, 2), nn.Embedding(5, 2))
    module[2].requires_grad_(False)
    optimizer = build_optimizer(module, OptimizerConfig(weight_decay=0.5, betas=(0.8, 0.7)))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        id(module[0].weight): 0.5,
        id(module[3].weight): 0.5,
        id(module[0].bias): 0.0,
        id(module[1].weight): 0.0,
        id(module[1].bias): 0.0,
    }
    assert decays == expected
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.7)}


def test_each_child_is_clipped_by_its_own_norm() -> None:
    module = nn.ModuleDict({"large": nn.Linear(2, 2), "small": nn.Linear(2, 2), "frozen": nn.Linear(2, 2)})
    for name, size in (("large", 10.0), ("small", 0.1)):
        for parameter in module[name].parameters():
            parameter.grad = torch.full_like(parameter, size)
    norms = clip_gradients(module, 1.0)
    assert {name: norm.item() for name, norm in norms.items()} == pytest.approx(
        {"gradient_norm/large": 10 * 6**0.5, "gradient_norm/small": 0.1 * 6**0.5}
    )
    lengths = {
        name: math.sqrt(sum(float(p.grad.square().sum()) for p in module[name].parameters()))
        for name in ("large", "small")
    }
    assert lengths == pytest.approx({"large": 1.0, "small": 0.1 * 6**0.5}, rel=1e-4)
    assert all(parameter.grad is None for parameter in module["frozen"].parameters())
