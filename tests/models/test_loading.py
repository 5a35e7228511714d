"""Checkpoints: saving and reading worlds, weight names of earlier versions, and errors for damaged files."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genie_gym.models import loading
from genie_gym.models.loading import digest_checkpoint, find_checkpoint, read_world, require_device, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn import weights as saving

Make = Callable[[str], GenieWorldModel]


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint that a test may damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


@pytest.fixture
def weights(checkpoint: Path) -> Path:
    (path,) = checkpoint.glob("model-*.safetensors")
    return path


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def same_world(one: GenieWorldModel, other: GenieWorldModel) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return (
        one.config == other.config
        and np.array_equal(one.start_clips, other.start_clips)
        and list(left) == list(right)
        and all(torch.equal(left[name], right[name]) and left[name].dtype == right[name].dtype for name in left)
    )


@pytest.mark.parametrize("kind", ["additive", "film", "full", "fsq", "token-lam", "oblong"])
def test_a_saved_world_is_read_back(make_world: Make, tmp_path: Path, kind: str) -> None:
    world = make_world(kind)
    loaded = read_world(save_world(world, tmp_path / "deep" / "world"))
    assert same_world(world, loaded)
    assert loaded.start_clips.shape == (4, 4, world.config.height, world.config.width, 3)
    assert loaded.start_clips.dtype == np.uint8
    assert not loaded.training


def test_a_world_without_start_clips(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    world = copy.copy(tiny_world)
    world.start_clips = tiny_world.start_clips[:0]
    assert read_world(save_world(world, tmp_path / "world")).start_clips.shape == (0, 4, 64, 64, 3)


def test_checkpoints_hold_no_pickle(tiny_checkpoint: Path) -> None:
    """Only safetensors and JSON, whose readers run no code."""
    assert {path.suffix for path in tiny_checkpoint.iterdir()} == {".safetensors", ".json"}
    for path in tiny_checkpoint.glob("*.safetensors"):
        assert load_file(path)
        assert not path.read_bytes().startswith((b"\x80", b"PK"))


def test_large_worlds_are_split_into_files(
    tiny_world: GenieWorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loading._SHARD_BYTES < 16 * 2**20
    limit = 100_000
    monkeypatch.setattr(loading, "_SHARD_BYTES", limit)
    folder = save_world(tiny_world, tmp_path / "world")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    for path in shards:
        tensors = load_file(path)
        size = sum(tensor.nbytes for tensor in tensors.values())
        assert size <= limit or len(tensors) == 1
    assert same_world(tiny_world, read_world(folder))
    shards[1].unlink()
    with pytest.raises(ValueError, match=r"do not fit their config.* is missing"):
        read_world(shutil.move(folder, tmp_path / "less"))


OLD_NAMES = {
    "dynamics.fold_in.weight": "dynamics.gather.weight",
    "dynamics.fold_in.bias": "dynamics.gather.bias",
    "dynamics.fold_out.weight": "dynamics.spread.weight",
    "dynamics.fold_out.bias": "dynamics.spread.bias",
    "dynamics.position_embeddings": "dynamics.places",
    "tokenizer.encoder_position_embeddings": "tokenizer.encoder_places",
    "tokenizer.decoder_position_embeddings": "tokenizer.decoder_places",
}
"""Present name of a weight -> its name in checkpoints of version 0.1."""


def stored_weights(folder: Path) -> dict[str, Tensor]:
    tensors = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("start_")}


def test_old_names_are_read_as_present_ones(make_world: Make, tmp_path: Path) -> None:
    world = make_world("folded")
    folder = save_world(world, tmp_path / "world")
    (path,) = folder.glob("model-*.safetensors")
    tensors = load_file(path)
    assert set(OLD_NAMES) <= set(tensors)
    save_file({OLD_NAMES.get(name, name): tensor for name, tensor in tensors.items()}, path)
    assert same_world(read_world(folder), world)


def test_start_frames_of_earlier_checkpoints_are_clips_of_one_frame(
    checkpoint: Path, tiny_world: GenieWorldModel
) -> None:
    (checkpoint / "start_clips.safetensors").unlink()
    frames = tiny_world.start_clips[:, 0]
    save_file({"start_frames": torch.from_numpy(frames.copy())}, checkpoint / "start_frames.safetensors")
    assert np.array_equal(read_world(checkpoint).start_clips, frames[:, None])


@pytest.mark.parametrize("misshape", [lambda clips: clips[:, 0], lambda clips: clips[:, :0], lambda clips: clips / 255])
def test_start_clips_of_another_shape_are_refused(
    tiny_world: GenieWorldModel, misshape: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=r"start_clips must be \(M, P, 64, 64, 3\) uint8 .*, got"):
        GenieWorldModel(tiny_world.config, misshape(tiny_world.start_clips))


def test_a_model_card(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    assert (save_world(tiny_world, tmp_path / "with", card="# A world\n") / "README.md").read_text() == "# A world\n"
    assert not (save_world(tiny_world, tmp_path / "without") / "README.md").exists()


def test_a_digest_changes_with_the_weights(tiny_checkpoint: Path, checkpoint: Path, weights: Path) -> None:
    before = digest_checkpoint(tiny_checkpoint)
    assert digest_checkpoint(checkpoint) == before
    (checkpoint / "README.md").write_text("a card changes nothing")
    save_file({"start_clips": torch.zeros(1, 4, 64, 64, 3, dtype=torch.uint8)}, checkpoint / "start_clips.safetensors")
    assert digest_checkpoint(checkpoint) == before, "other clips to start from are not another world"
    tensors = load_file(weights)
    next(iter(tensors.values())).flatten()[0] += 1
    save_file(tensors, weights)
    assert digest_checkpoint(checkpoint) != before


def test_weights_may_be_stored_in_bfloat16(checkpoint: Path, weights: Path, tiny_world: GenieWorldModel) -> None:
    half = {name: one.bfloat16() if one.is_floating_point() else one for name, one in load_file(weights).items()}
    save_file(half, weights)
    loaded = read_world(checkpoint)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    for name, weight in loaded.named_parameters():
        torch.testing.assert_close(weight, tiny_world.get_parameter(name), rtol=0.01, atol=0)


def test_position_embeddings_of_version_0_1_had_another_name(make_world: Make, tmp_path: Path) -> None:
    """Those of the tokenizer and of an ``st`` latent action model."""
    world = make_world("st-lam")
    folder = save_world(world, tmp_path / "world")
    (path,) = folder.glob("model-*.safetensors")
    weights = {name.replace("_position_embeddings", "_places"): value for name, value in load_file(path).items()}
    assert sum(name.endswith("_places") for name in weights) == 4
    save_file(weights, path)
    assert same_world(read_world(folder), world)


def test_an_unknown_name_is_answered_with_the_known_ones(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    for name in ("here", "there"):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"checkpoint 'nowhere' .*\['here', 'there'\]"):
        find_checkpoint("nowhere")
    with pytest.raises(ValueError, match=r"checkpoint .*empty"):
        find_checkpoint(tmp_path / "empty")
    assert find_checkpoint("there") == tmp_path / "there"


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_truncated_weights_are_refused(checkpoint: Path, weights: Path, kept: int) -> None:
    whole = weights.read_bytes()
    weights.write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=rf"weights .*{weights.name}.* are damaged"):
        read_world(checkpoint)
    weights.write_bytes(whole)
    assert read_world(checkpoint)


def test_files_whose_names_begin_with_a_dot_are_no_weights(checkpoint: Path, weights: Path) -> None:
    """macOS writes a file ._NAME beside each NAME on other disks."""
    digest = digest_checkpoint(checkpoint)
    weights.with_name(f"._{weights.name}").write_bytes(b"macOS")
    assert read_world(checkpoint)
    assert digest_checkpoint(checkpoint) == digest


def test_files_that_are_no_safetensors_are_refused(checkpoint: Path, weights: Path) -> None:
    weights.write_bytes(b"\x80\x05" + b"no tensors" * 100)
    with pytest.raises(ValueError, match="damaged"):
        read_world(checkpoint)


@pytest.mark.parametrize("change", ["missing", "unknown", "misshapen"])
def test_tensors_that_do_not_fit_are_refused(checkpoint: Path, weights: Path, change: str) -> None:
    tensors, name = load_file(weights), "dynamics.output_bias"
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors[f"{name}.too"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(3)
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=rf"do not fit their config: .*{name}"):
        read_world(checkpoint)


def test_weights_of_another_config_are_refused(checkpoint: Path) -> None:
    world = json.loads((checkpoint / "config.json").read_text())["world"]
    world["context_length"] = 9
    edit_config(checkpoint, world=world)
    with pytest.raises(ValueError, match="do not fit their config"):
        read_world(checkpoint)


@pytest.mark.parametrize("found", [0, 2, "1", None, True, 1.0, [1]])
def test_another_format_is_refused(checkpoint: Path, found: Any) -> None:
    edit_config(checkpoint, format=found)
    with pytest.raises(ValueError, match=re.escape(f"must be an object of format 1, got {found!r}")):
        read_world(checkpoint)


@pytest.mark.parametrize("text", ["", "{", '{"format": 1, "world": ', "\ufffd"])
def test_a_config_that_is_no_json_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json' is no JSON"):
        read_world(checkpoint)


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"format": 1}', '{"format": 1, "world": 3}'])
def test_a_config_without_a_world_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config .*config.json'(: WorldConfig)? must be"):
        read_world(checkpoint)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("depth", 3, "WorldConfig must be .*depth"), ("height", -1, "WorldConfig.height must be positive, got -1")],
)
def test_a_config_with_wrong_fields_is_refused(checkpoint: Path, field: str, value: int, message: str) -> None:
    world = json.loads((checkpoint / "config.json").read_text())["world"]
    edit_config(checkpoint, world={**world, field: value})
    with pytest.raises(ValueError, match=message):
        read_world(checkpoint)


def test_a_folder_with_other_files_is_not_overwritten(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(ValueError, match="thesis' exists and is no checkpoint"):
        save_world(tiny_world, folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter.txt"]


def test_a_file_is_not_overwritten(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="file' exists and is no checkpoint"):
        save_world(tiny_world, tmp_path / "file")
    with pytest.raises(ValueError, match="world' cannot be written"):
        save_world(tiny_world, tmp_path / "file" / "world")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_world_is_not_saved_in_a_folder_named_like_an_address(
    tiny_world: GenieWorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="folder must be on disk; genie-gym push uploads"):
        save_world(tiny_world, kind("hf://me/world"))
    assert not any(tmp_path.iterdir())


def test_an_empty_folder_is_used(tiny_world: GenieWorldModel, tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    assert same_world(read_world(save_world(tiny_world, tmp_path / "world")), tiny_world)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_failed_save_changes_nothing(
    tiny_world: GenieWorldModel, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    """If the disk fills up meanwhile, the earlier files stay as they were."""
    folder = checkpoint if earlier else checkpoint.parent / "new"
    before = {path: path.read_bytes() for path in checkpoint.parent.rglob("*") if path.is_file()}

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        if path.name.startswith("start_clips"):
            raise OSError("no space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises((ValueError, OSError), match="no space left"):
        save_world(tiny_world, folder)
    assert {path: path.read_bytes() for path in checkpoint.parent.rglob("*") if path.is_file()} == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["copy"]


NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
NO_MPS = pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")


@pytest.mark.parametrize(
    "device", ["abacus", "meta", pytest.param("mps", marks=NO_MPS), pytest.param("cuda", marks=NO_CUDA)]
)
def test_a_device_that_cannot_compute_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"device must be .*'{device}'") as caught:
        require_device(device)
    assert len(str(caught.value)) < 700, "torch's own message for a missing backend fills a screen"


@NO_CUDA
@pytest.mark.parametrize(
    ("build", "hidden", "wanted"),
    [
        (None, None, ["built for CPUs alone", "pip uninstall torch", "download.pytorch.org/whl/cu"]),
        (
            "13.0",
            None,
            [
                "finds no GPU",
                "nvidia-smi",
                "CUDA 13.0",
                "CUDA_VISIBLE_DEVICES (not set)",
                "download.pytorch.org/whl/cpu",
            ],
        ),
        ("13.0", "", ["finds no GPU", "CUDA_VISIBLE_DEVICES ('')"]),
    ],
)
def test_the_error_of_a_missing_gpu_says_what_mends_it(
    build: str | None, hidden: str | None, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(ValueError, match="device must be available, got 'cuda:0', but") as caught:
        require_device("cuda:0")
    assert [part for part in wanted if part not in str(caught.value)] == []


def test_a_missing_gpu_beside_others_is_not_blamed_on_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"got 'cuda:99', but (?!.*pip install).*: 1 found"):
        require_device("cuda:99")
