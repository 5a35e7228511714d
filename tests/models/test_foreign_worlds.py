"""Worlds from strangers: whatever stands in their files is refused by name or plays, and nothing large is built."""

import copy
import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genie_gym import configs
from genie_gym.checks import LIMITS
from genie_gym.models import loading
from genie_gym.models.listing import read_config
from genie_gym.models.loading import digest_checkpoint, find_checkpoint, read_world, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.tensor_files import build_on_meta
from genie_gym.real_actions import RealActionConfig

Make = Callable[[str], GenieWorldModel]
Place = tuple[str | int, ...]
WRONG_TYPES: list[Any] = ["x", "", "\ud800", {}, {"x": 1}, [None], [[1]], float("nan"), float("inf"), 10**400, 2**63]
"""Values that no field takes, beside the texts of a few."""
OTHERS: list[Any] = [..., None, True, -1, 0, 2, 1.5, 16.0, 1e300, 1e-320, 10**9, []]


@pytest.fixture(params=["fsq", "boxed"])
def checkpoint(request: pytest.FixtureRequest, make_world: Make, tmp_path: Path) -> Path:
    return save_world(make_world(request.param), tmp_path / "world")


@pytest.fixture
def small(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


@pytest.fixture
def weights(small: Path) -> Path:
    (path,) = small.glob("model-*.safetensors")
    return path


def fields(values: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the path of each field of JSON values."""
    for name, value in values.items() if isinstance(values, dict) else ():
        yield (*above, name)
        yield from fields(value, (*above, name))


def edit(folder: Path, place: Place, value: Any) -> None:
    path = folder / "config.json"
    values = copy.deepcopy(json.loads(path.read_text()))
    inner = values
    for name in place[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(values))


def test_any_damage_of_a_field_of_a_config_is_refused_by_name_or_plays(checkpoint: Path) -> None:
    text, seen = (checkpoint / "config.json").read_text(), {read_config(checkpoint)}
    for place in fields(json.loads(text)):
        for value in [*OTHERS, *WRONG_TYPES]:
            (checkpoint / "config.json").write_text(text)
            edit(checkpoint, place, value)
            try:
                if (config := read_config(checkpoint)) not in seen:
                    seen.add(config)
                    read_world(checkpoint)
            except ValueError as error:
                told = str(error)
                is_between = re.search(r"Config\.\w+ must be", told)  # a rule between two fields may name the other
                is_named = str(place[-1]) in told or is_between or "do not fit their config: " in told
                assert is_named, (place, value, told)
                assert len(told) < 1500, (place, value, told)
                assert "\n" not in told, (place, value, told)
            else:
                is_right = isinstance(value, int | float) or value in (None, ..., [])
                assert is_right or (place[-1], value) == ("sampling", {}), (place, value)


@pytest.mark.parametrize("place", [("format",), ("world", "latent_action_model", "history")])
@pytest.mark.parametrize("value", [True, 1.0, "1", [1], None])
def test_a_number_is_no_truth_and_no_other_number(place: Place, value: Any, make_world: Make, tmp_path: Path) -> None:
    folder = save_world(make_world("boxed"), tmp_path / "world")
    edit(folder, place, value)
    with pytest.raises(ValueError, match=str(place[-1])):
        read_world(folder)


def sizes() -> Iterator[tuple[str, Any]]:
    """Yield the name and class of each number of a world's config."""
    kinds: list[Any] = [configs.WorldConfig]
    for kind in kinds:
        for field in dataclasses.fields(kind):
            options = [field.type, *typing.get_args(field.type)]
            kinds += [each for each in options if dataclasses.is_dataclass(each) and each not in kinds]
            if {int, float} & set(options):
                yield field.name, kind


UNBOUNDED = {
    "QuantizerConfig.levels",  # their product is the number of codes
    "MovingActionConfig.merged_actions",  # at most the codes
    "MovingActionConfig.agent_weight",  # of training alone
    "QuantizerConfig.commitment_weight",
    "QuantizerConfig.diversity_weight",
    "QuantizerConfig.start_after",
    "QuantizerConfig.restart_after",
}


def test_every_size_of_a_world_has_a_limit_and_is_held_to_it() -> None:
    examples: dict[Any, Any] = {}
    for name, kind in sizes():
        shares = {"decay", "hidden_frames"} | {each for each in dir(kind) if each.endswith(("_frames", "_ratio"))}
        if f"{kind.__name__}.{name}" in UNBOUNDED or name in shares or name.endswith(("_corruption", "_context")):
            continue
        _, most = LIMITS[f"{kind.__name__}.{name}"]
        config = examples.setdefault(kind, example(kind))
        with pytest.raises(ValueError, match=rf"{kind.__name__}\.{name} must be in \["):
            dataclasses.replace(config, **{name: 2 * most})


def example(kind: Any) -> Any:
    from genie_gym.presets import PRESETS

    def walk(config: Any) -> Iterator[Any]:
        yield config
        for field in dataclasses.fields(config):
            if dataclasses.is_dataclass(value := getattr(config, field.name)):
                yield from walk(value)

    no_preset_has = [RealActionConfig(actions=2)]
    found = (each for preset in PRESETS.values() for each in walk(preset))
    return next(each for each in itertools.chain(found, no_preset_has) if type(each) is kind)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("world", "tokenizer", "encoder", "width"), 65_536),
        (("world", "dynamics", "transformer", "layers"), 512),
        (("world", "tokenizer", "quantizer", "codes"), 1 << 24),
        (("world", "context_length"), 4096),
        (("world", "height"), 8192),
    ],
)
def test_nothing_is_allocated_for_sizes_that_the_weights_do_not_have(
    small: Path, place: Place, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def note(*arguments: Any) -> GenieWorldModel:
        built.append(torch.empty(0).device.type)
        return GenieWorldModel(*arguments)

    monkeypatch.setattr(loading, "GenieWorldModel", note)
    edit(small, place, value)
    with pytest.raises(ValueError, match=r"do not fit their config: .* (must be \(.*, got \(|is missing)"):
        read_world(small)
    assert built == ["meta"]


def test_a_world_without_memory_has_the_names_shapes_and_types_of_a_real_one(
    variants: dict[str, configs.WorldConfig],
) -> None:
    for name, config in variants.items():
        real = GenieWorldModel(config).state_dict()
        found = build_on_meta(lambda config=config: GenieWorldModel(config)).state_dict()
        assert {tensor.device.type for tensor in found.values()} == {"meta"}, name
        shapes = {each: (tensor.shape, tensor.dtype) for each, tensor in found.items()}
        assert shapes == {each: (tensor.shape, tensor.dtype) for each, tensor in real.items()}, name


def test_comparing_shapes_loads_no_compiler() -> None:
    """It would take a second and a half of every command."""
    program = (
        "import sys; from genie_gym.models.loading import find_checkpoint, read_world; "
        "read_world(find_checkpoint('coinrun')); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_their_names(small: Path, weights: Path, number: float) -> None:
    whole = load_file(weights)
    for name in [each for each, tensor in whole.items() if tensor.is_floating_point()][::10]:
        damaged = {each: tensor.clone() for each, tensor in whole.items()}
        damaged[name].view(-1)[-1] = number
        save_file(damaged, weights)
        with pytest.raises(ValueError, match=rf"{weights.name}': {name} must be finite, got NaN or infinity"):
            read_world(small)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused_by_their_names(small: Path, weights: Path, kind: torch.dtype) -> None:
    tensors = load_file(weights)
    tensors["dynamics.output_bias"] = tensors["dynamics.output_bias"].to(kind)
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=r"dynamics\.output_bias must be float32, got"):
        read_world(small)


@pytest.mark.parametrize("name", ["dynamics.output_bias", "start_clips"])
def test_a_stray_file_does_not_override_a_tensor(small: Path, name: str) -> None:
    held = {each: tensor for path in small.glob("*.safetensors") for each, tensor in load_file(path).items()}
    save_file({name: held[name]}, small / "zzz.safetensors")
    with pytest.raises(ValueError, match=rf"must hold each tensor once, got {name} in .* and zzz\.safetensors"):
        read_world(small)


@pytest.mark.parametrize("name", ["start_weights", "start_clips", "start_frames"])
def test_weights_in_a_file_that_the_digest_leaves_out_are_refused(small: Path, weights: Path, name: str) -> None:
    """Two worlds of other weights would have one digest, and each would replay the other's trajectories and states."""
    held = load_file(weights)
    moved = {"dynamics.output_bias": held.pop("dynamics.output_bias")}
    save_file(held, weights)
    clips = load_file(small / "start_clips.safetensors") if name == "start_clips" else {}
    save_file({**clips, **moved}, small / f"{name}.safetensors")
    with pytest.raises(ValueError, match=rf"{name}\.safetensors' must not lie in a file of start clips, got dynamics"):
        read_world(small)


def test_merged_actions_beyond_the_last_are_refused(make_world: Make, tiny_config: Any, tmp_path: Path) -> None:
    part = configs.MovingActionConfig(quantizer=configs.QuantizerConfig(codes=8), width=8, merged_actions=4)
    world = GenieWorldModel(dataclasses.replace(tiny_config, latent_action_model=part)).eval()
    folder = save_world(world, tmp_path / "world")
    assert read_world(folder)
    actions = world.latent_action_model.action_of_code
    assert actions is not None
    actions[3] = 4
    with pytest.raises(ValueError, match=r"action_of_code must be in \[0, 4\)"):
        read_world(save_world(world, folder))


HEADS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n": "a Git LFS pointer.*git lfs pull",
    b"\n <!DOCTYPE html>\n<html>404</html>": "a web page",
    b"\xef\xbb\xbf<html></html>": "a web page",
    b'<?xml version="1.0"?><Error/>': "an XML document",
    b"PK\x03\x04pytorch": "a zip archive or a pickle",
    b"\x80\x05cposix\nsystem\n": "a pickle",
}


@pytest.mark.parametrize("content", HEADS)
@pytest.mark.parametrize("name", ["config.json", "start_clips.safetensors", "model-00001-of-00001.safetensors"])
def test_a_file_that_is_something_else_is_told_as_what_it_is(small: Path, name: str, content: bytes) -> None:
    assert (small / name).exists()
    (small / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}' (is no JSON: it is|are damaged: the file is) {HEADS[content]}"):
        read_world(small)


@pytest.mark.timeout(300)  # a pipe would be waited for
@pytest.mark.parametrize("name", ["x.safetensors", "config.json"])
def test_a_pipe_in_the_folder_is_refused(small: Path, name: str) -> None:
    (small / name).unlink(missing_ok=True)
    os.mkfifo(small / name)
    with pytest.raises(ValueError, match=r"regular file|neither a checkpoint's folder"):
        read_world(find_checkpoint(small))


@pytest.mark.parametrize("name", ["config.json", "x.safetensors", "model-00001-of-00001.safetensors"])
def test_a_vast_file_without_contents_is_refused(small: Path, name: str) -> None:
    with (small / name).open("r+b" if (small / name).exists() else "wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(ValueError, match=name):
        read_world(small)


def test_vast_start_clips_are_refused_before_they_are_read(small: Path) -> None:
    shape = [1_000_000, 1, 64, 64, 3]
    size = int(np.prod(shape))
    header = json.dumps({"start_clips": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]}}).encode()
    with (small / "start_clips.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    with pytest.raises(ValueError, match=r"start_clips in .* must be at most 1073741824 bytes, got 12288000000"):
        read_world(small)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"format": 1, "world": ' + "[" * 5000])
def test_a_config_that_is_nested_without_end_is_refused(small: Path, text: str) -> None:
    (small / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json' is no JSON that can be read: it is nested too deeply"):
        read_world(small)


def test_links_to_files_are_followed(small: Path, weights: Path) -> None:
    """The cache of huggingface_hub holds checkpoints of links."""
    blob = small.parent / "blob"
    weights.rename(blob)
    weights.symlink_to(blob)
    assert read_world(small)
    assert digest_checkpoint(small)


def test_names_of_actions_are_printable(tiny_config: Any) -> None:
    names = [f"{number}" for number in range(tiny_config.num_latent_actions)]
    for wrong in ("\x1b[2J", "a\nb", "\ud800", "", "\0"):
        with pytest.raises(ValueError, match=r"WorldConfig\.action_names must be 8 different, printable texts"):
            dataclasses.replace(tiny_config, action_names=(*names[1:], wrong))
