"""Small networks from strangers: sizes are compared before anything is built, and configs and numbers checked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from agents.config import PolicyConfig
from agents.policy import LatentPolicy, load_policy, save_policy
from genie_gym.models.reward_model import RewardModel, load_reward_model, save_reward_model
from genie_gym.nn.tensor_files import build_with

NETWORKS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], nn.Module]]] = {
    "policy": (lambda folder: save_policy(LatentPolicy(PolicyConfig(), 8), folder), load_policy),
    "reward model": (lambda folder: save_reward_model(RewardModel(["reward"], 64, 64), folder), load_reward_model),
}
OTHERS: list[Any] = [..., None, True, -1, 0, 1.5, 10**9, 2**63, 10**400, "x", "", [], {}, [None], float("nan")]


@pytest.mark.parametrize("name", NETWORKS)
def test_any_field_of_the_description_of_a_network_is_refused_by_name_or_read(name: str, tmp_path: Path) -> None:
    save, load = NETWORKS[name]
    path = save(tmp_path / "network") / "config.json"
    about = json.loads(path.read_text())
    load(path.parent)
    for field in about:
        for value in OTHERS:
            damaged = {each: about[each] for each in about if each != field or value is not ...}
            path.write_text(json.dumps(damaged if value is ... else {**about, field: value}))
            try:
                load(path.parent)
            except ValueError as error:
                told = str(error)
                assert field in told or "PolicyConfig" in told or "do not fit" in told, (field, value, told)
            else:
                assert isinstance(value, str) or (field, value) == ("policy", {}), (field, value)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_weights_that_are_no_numbers_is_refused(name: str, tmp_path: Path) -> None:
    save, load = NETWORKS[name]
    path = save(tmp_path / "network") / "weights.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"must be finite, got NaN or infinity"):
        load(path.parent)


def test_a_network_of_other_sizes_is_not_built(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, 4)}, tmp_path / "a.safetensors")
    built: list[str] = []

    def build() -> nn.Module:
        built.append(torch.empty(0).device.type)
        return nn.Linear(1 << 20, 1 << 20, bias=False)

    with pytest.raises(ValueError, match=r"^weights of x: weight must be \(1048576, 1048576\), got \(3, 4\)$"):
        build_with(build, tmp_path / "a.safetensors", "weights of x")
    assert built == ["meta"]
