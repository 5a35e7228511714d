"""Operations counted from a config equal those that PyTorch counts in a step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genie_gym.bench.operations import part_operations
from genie_gym.configs import WorldConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import kernels

Vary = Callable[[Any, dict[str, Any]], Any]
ONE_HEAD = {
    f"{part}.{name}": value
    for part in ("dynamics.transformer", "tokenizer.decoder")
    for name, value in (("heads", 1), ("value_dim", 24))
}
KINDS: dict[str, dict[str, Any]] = {
    "additive": {},
    "token": {"dynamics.action_conditioning": "token"},
    "film": {"dynamics.action_conditioning": "film"},
    "full": {"tokenizer.decoder.attention": "full"},
    "spatial": {"tokenizer.decoder.attention": "spatial"},
    "folded": {"tokenizer.patch_size": 8, "tokenizer.fold": 2, "dynamics.fold": 2},
    "conv": {"tokenizer.decoder.attention": "conv"},
    "fsq": {"tokenizer.quantizer": {"kind": "fsq", "codes": 64, "levels": (4, 4, 4)}},
}


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's counter does not see what the C++ kernels compute."""
    monkeypatch.setattr(kernels, "can_multiply", lambda dtype: False)


def total(config: WorldConfig, maskgit_steps: int) -> int:
    return sum(part_operations(config, maskgit_steps).values())


def count(config: WorldConfig, rows: int, maskgit_steps: int) -> int:
    """Return PyTorch's count for one step after a prompt that fills the context."""
    world = GenieWorldModel(config).freeze()
    videos = torch.rand(rows, config.context_length, 3, config.height, config.width)
    state, _ = world.reset(videos, range(rows), maskgit_steps)
    with FlopCounterMode(display=False) as counter:
        world.step(state, torch.zeros(rows, dtype=torch.int64))
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(("rows", "maskgit_steps"), [(1, 1), (3, 4)])
def test_one_head_counts_as_torch_does(
    tiny_config: WorldConfig, vary: Vary, kind: str, rows: int, maskgit_steps: int
) -> None:
    config = vary(tiny_config, {**ONE_HEAD, **KINDS[kind]})
    assert count(config, rows, maskgit_steps) == rows * total(config, maskgit_steps)


def test_heads_count_once(tiny_config: WorldConfig, vary: Vary) -> None:
    """Two heads of 16 features count as much as one of 32, whatever a step really multiplies."""
    split = {f"{part}.{name}": value for part in ("dynamics.transformer", "tokenizer.decoder")
             for name, value in (("heads", 2), ("head_dim", 16))}  # fmt: skip
    whole = {path: {"heads": 1, "head_dim": 32}[path.rsplit(".", 1)[1]] for path in split}
    two, one = vary(tiny_config, split), vary(tiny_config, whole)
    assert total(two, 3) == total(one, 3)
    assert count(two, 1, 3) >= total(two, 3)
