"""Codes are merged by which codes follow each other: those of one held key become one latent action."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_gym.configs import MovingActionConfig, TrainConfig, WorldConfig
from genie_gym.data.clips import Batch
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.training import actions
from genie_gym.training.actions import train_actions
from genie_gym.training.loop import Phase
from genie_gym.training.merging import merge_codes, mutual_information


def held_keys(keys: int, codes_per_key: int, seed: int = 0) -> torch.Tensor:
    """Return (64, 100) codes of keys that are held for about ten frames; each frame shows any of a key's codes."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randint(keys, (64,), generator=generator)
    frames = []
    for _ in range(100):
        drawn = torch.randint(keys, (64,), generator=generator)
        key = torch.where(torch.rand(64, generator=generator) < 0.1, drawn, key)
        frames.append(key * codes_per_key + torch.randint(codes_per_key, (64,), generator=generator))
    return torch.stack(frames, dim=1)


def test_codes_of_one_held_key_become_one_action() -> None:
    groups = merge_codes(held_keys(4, 3), torch.randn(12, 2), 4)
    assert groups.view(4, 3).eq(groups.view(4, 3)[:, :1]).all()
    assert sorted(groups.unique().tolist()) == [0, 1, 2, 3]


def test_no_single_move_of_a_code_gains_information() -> None:
    codes, groups = 16, 4
    logits = 2 * torch.randn(codes, codes, generator=torch.Generator().manual_seed(0))
    sequences = _chain(logits.softmax(dim=1))
    found = merge_codes(sequences, torch.randn(codes, 2), groups)
    pairs = torch.bincount(sequences[:, :-1].flatten() * codes + sequences[:, 1:].flatten(), minlength=codes**2)
    pairs = pairs.view(codes, codes).double()

    def left(grouping: torch.Tensor) -> float:
        membership = torch.nn.functional.one_hot(grouping, groups).double()
        return mutual_information(membership.T @ pairs @ membership)

    best = left(found)
    for code in range(codes):
        for group in range(groups):
            moved = found.clone()
            moved[code] = group
            assert left(moved) <= best + 1e-8


def _chain(transitions: torch.Tensor) -> torch.Tensor:
    """Return (64, 200) states of Markov chains with these probabilities (from, to)."""
    generator = torch.Generator().manual_seed(1)
    states = [torch.zeros(64, dtype=torch.int64)]
    for _ in range(200):
        states.append(torch.multinomial(transitions[states[-1]], 1, generator=generator)[:, 0])
    return torch.stack(states[1:], dim=1)


def test_frequent_actions_come_first() -> None:
    sequences = held_keys(3, 2)
    groups = merge_codes(sequences, torch.randn(6, 2), 3)
    use = torch.bincount(groups[sequences[:, :-1]].flatten(), minlength=3)
    assert use.tolist() == sorted(use.tolist(), reverse=True)


def test_a_code_that_does_not_occur_joins_the_nearest_one_that_does() -> None:
    sequences, vectors = held_keys(3, 2), torch.eye(7)
    vectors[6] = vectors[3] + 0.1
    groups = merge_codes(sequences, vectors, 3)
    assert groups[6] == groups[3]


def test_fewer_codes_than_actions_each_stay_an_action() -> None:
    """A game in which little happens uses few codes, and a long training must not end in an error."""
    groups = merge_codes(held_keys(3, 2), torch.randn(8, 2), 7)
    assert sorted(groups[:6].tolist()) == list(range(6))
    assert set(groups[6:].tolist()) <= set(range(6))


def test_mutual_information_of_known_tables() -> None:
    assert mutual_information(torch.eye(4).double()) == pytest.approx(torch.log(torch.tensor(4.0)).item())
    assert mutual_information(torch.ones(3, 5).double()) == pytest.approx(0)


@pytest.fixture
def merging_config(variants: dict[str, WorldConfig]) -> WorldConfig:
    """Return a world whose 32 codes are merged into 8 latent actions."""
    config = variants["boxed"]
    assert isinstance(config.latent_action_model, MovingActionConfig)
    quantizer = replace(config.latent_action_model.quantizer, codes=32, levels=(8, 4), start_after=2)
    return replace(
        config, latent_action_model=replace(config.latent_action_model, quantizer=quantizer, merged_actions=8)
    )


def test_training_ends_with_merged_labels(
    merging_config: WorldConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are the merged codes, all actions have a code, and a second call of a finished run changes nothing."""
    monkeypatch.setattr(actions, "_MERGING_PAIRS", 1200)
    torch.manual_seed(0)
    clips = torch.rand(8, 8, 3, merging_config.height, merging_config.width)

    def batches(first: int, number: int) -> Any:
        return (Batch(clips, torch.arange(8)) for _ in range(number))

    training = TrainConfig(train_steps=4, batch_size=8, clip_length=8, precision="float32")
    phase = Phase(batches, training, tmp_path, progress=False)
    model = LatentActionModel(merging_config)
    assert train_actions(model, phase) == 4
    assert model.action_of_code is not None
    assert sorted(model.action_of_code.unique().tolist()) == list(range(8))
    assert torch.equal(model.label(clips), model.action_of_code[model.encode(clips)])
    again = LatentActionModel(merging_config)
    train_actions(again, phase)
    assert torch.equal(again.action_of_code, model.action_of_code)


def test_too_many_merged_actions_are_refused(merging_config: WorldConfig) -> None:
    part = merging_config.latent_action_model
    with pytest.raises(ValueError, match="merged_actions must be at most the 32 codes, got 33"):
        replace(part, merged_actions=33)


def test_a_world_has_as_many_actions_as_codes_are_merged_into(merging_config: WorldConfig) -> None:
    assert merging_config.num_latent_actions == 8
