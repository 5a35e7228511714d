"""``load_world``: prepared worlds, one per process for each checkpoint, device and precision."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genie_gym.models.loading import digest_checkpoint, name_checkpoint, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import WorldSource, find_source, load_world


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint that a test may change."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def test_a_loaded_world_is_frozen(checkpoint: Path) -> None:
    world = load_world(checkpoint)
    assert not world.training
    assert not any(weight.requires_grad for weight in world.parameters())


def test_a_checkpoint_is_loaded_once_per_precision(checkpoint: Path) -> None:
    world = load_world(checkpoint)
    assert load_world(str(checkpoint)) is world
    assert load_world(checkpoint.parent / "." / checkpoint.name) is world
    low = load_world(checkpoint, precision="bfloat16")
    assert low is not world
    assert low.dynamics.precision == torch.bfloat16
    assert load_world(checkpoint, precision="bfloat16") is low


def test_a_rewritten_checkpoint_is_loaded_again(make_world: Callable[[str], GenieWorldModel], checkpoint: Path) -> None:
    before, other = load_world(checkpoint), make_world("film")
    save_world(other, checkpoint)
    after = load_world(checkpoint)
    assert after is not before
    assert after.config == other.config


def test_a_failure_is_not_cached(checkpoint: Path) -> None:
    (path,) = checkpoint.glob("model-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="damaged"):
        load_world(checkpoint)
    path.write_bytes(whole)
    assert load_world(checkpoint)


@pytest.mark.parametrize("argument", ["device", "precision"])
def test_unknown_devices_and_precisions_are_refused(checkpoint: Path, argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be .*'abacus'"):
        load_world(checkpoint, **{argument: "abacus"})


def test_an_unknown_checkpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="checkpoint 'nowhere' is neither"):
        load_world("nowhere")


def test_a_loaded_world_names_its_checkpoint(checkpoint: Path) -> None:
    for given in (checkpoint, "coinrun"):
        world = load_world(given, precision="bfloat16")
        name = given if given == "coinrun" else str(given)
        source = find_source(world)
        assert source == WorldSource(name, digest_checkpoint(given), "cpu", "bfloat16")
        assert source.load() is world


def test_only_loaded_worlds_name_a_checkpoint(checkpoint: Path, tiny_world: GenieWorldModel) -> None:
    """A copy may be changed, so it is not what the checkpoint holds."""
    for world in (tiny_world, copy.copy(load_world(checkpoint)), copy.deepcopy(load_world(checkpoint))):
        assert find_source(world) is None


def test_a_checkpoint_is_digested_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[Path] = []
    monkeypatch.setattr("genie_gym.serving.loading.digest_checkpoint", lambda folder: digested.append(folder) or "0")
    world = load_world(checkpoint)
    assert digested == []
    assert find_source(world) == find_source(world)
    assert digested == [checkpoint.resolve()]


@pytest.mark.parametrize(("change", "reason"), [("rewrite", "it has been rewritten"), ("remove", "is neither")])
def test_a_changed_checkpoint_is_not_taken_for_the_loaded_one(checkpoint: Path, change: str, reason: str) -> None:
    world = load_world(checkpoint)
    if change == "rewrite":
        name_checkpoint(checkpoint, [f"action {number}" for number in range(world.config.num_latent_actions)])
    else:
        shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match=rf"checkpoint '{checkpoint}' .*{reason}"):
        find_source(world)
