"""Codes are merged by which codes follow each other: those of one held key become one latent action."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_gym.configs import MovingActionConfig, TrainConfig, WorldConfig
from genie_gym.data.clips import Batch
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.loading import read_world, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training import actions
from genie_gym.training.actions import train_actions
from genie_gym.training.loop import Phase
from genie_gym.training.merging import find_centres, merge_codes, mutual_information


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


def plan_short_training(config: WorldConfig, folder: Path) -> tuple[torch.Tensor, Phase]:
    """Return (8, 8, 3, H, W) random clips and a phase of four steps on them."""
    torch.manual_seed(0)
    clips = torch.rand(8, 8, 3, config.height, config.width)

    def batches(first: int, number: int) -> Any:
        return (Batch(clips, torch.arange(8)) for _ in range(number))

    training = TrainConfig(train_steps=4, batch_size=8, clip_length=8, precision="float32")
    return clips, Phase(batches, training, folder, progress=False)


def test_training_ends_with_merged_labels(
    merging_config: WorldConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are the merged codes, all actions have a code, and a second call of a finished run changes nothing."""
    monkeypatch.setattr(actions, "_MERGING_PAIRS", 1200)
    clips, phase = plan_short_training(merging_config, tmp_path)
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


@pytest.fixture
def clustering_config(merging_config: WorldConfig) -> WorldConfig:
    """Return a world whose 8 latent actions are clusters of latents."""
    return replace(merging_config, latent_action_model=replace(merging_config.latent_action_model, merging="latents"))


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_found_whatever_the_start(seed: int) -> None:
    """Twelve heaps of points of different sizes each get a centre, that of the largest heap first."""
    generator = torch.Generator().manual_seed(seed)
    heaps = 20 * torch.randn(12, 16, generator=generator)
    points = torch.cat([heap + torch.randn(40 + 10 * k, 16, generator=generator) for k, heap in enumerate(heaps)])
    centres = find_centres(points[torch.randperm(len(points), generator=generator)], 12)
    nearest = torch.cdist(heaps, centres).argmin(dim=1)
    assert nearest.tolist() == list(range(11, -1, -1))
    assert (centres[nearest] - heaps).square().mean() < 0.1
    assert torch.equal(find_centres(points, 12, seed=1), find_centres(points, 12, seed=1))


def test_fewer_different_points_than_clusters_are_no_error() -> None:
    centres = find_centres(torch.eye(3).repeat(10, 1), 5)
    assert centres.shape == (5, 3)
    assert centres.isfinite().all()


def test_training_ends_with_clusters_of_latents(
    clustering_config: WorldConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label is the nearest centre, whatever the code; a second call of a finished run finds the centres again."""
    monkeypatch.setattr(actions, "_MERGING_PAIRS", 1200)
    clips, phase = plan_short_training(clustering_config, tmp_path)
    model = LatentActionModel(clustering_config)
    train_actions(model, phase)
    assert model.action_of_code is None
    assert model.centres is not None
    latents, labels = model.latents(clips), model.label(clips)
    assert labels.unique().numel() == clustering_config.num_latent_actions == 8
    assert torch.equal(labels, (latents[..., None, :] - model.centres).square().sum(dim=-1).argmin(dim=-1))
    assert torch.equal(labels, model.eval().loss_and_labels(clips)[1])
    again = LatentActionModel(clustering_config)
    train_actions(again, phase)
    assert torch.equal(again.centres, model.centres)


def test_codes_that_collapse_leave_what_latents_tell(clustering_config: WorldConfig) -> None:
    """If every latent has one code, clusters of latents still tell transitions apart."""
    torch.manual_seed(0)
    model = LatentActionModel(clustering_config).eval()
    for part in model.quantizer.parts:
        part.codebook.zero_()
    clips = torch.rand(16, 6, 3, clustering_config.height, clustering_config.width)
    model.centres.copy_(find_centres(model.latents(clips)[:, 1:].flatten(0, 1), 8))
    assert model.encode(clips).unique().numel() == 1
    assert model.label(clips)[:, 1:].unique().numel() == 8


def test_clustered_actions_survive_a_checkpoint(clustering_config: WorldConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    world = GenieWorldModel(clustering_config).eval()
    world.latent_action_model.centres.normal_()
    clips = torch.rand(2, 6, 3, clustering_config.height, clustering_config.width)
    loaded = read_world(save_world(world, tmp_path / "world"))
    assert torch.equal(loaded.label(clips), world.label(clips))
    assert loaded.label(clips).unique().numel() > 1


def test_merged_latents_need_a_number_of_actions(merging_config: WorldConfig) -> None:
    with pytest.raises(ValueError, match="merged_actions must be positive to merge latents, got 0"):
        replace(merging_config.latent_action_model, merged_actions=0, merging="latents")
