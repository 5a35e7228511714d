"""What strangers hand in: a sound file of each kind, a damage of it, and the code that opens it and uses it."""

import io
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from experiments.trust.damage import damage_bytes, damage_values
from genie_gym.config_io import vary
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import convert
from genie_gym.data.shards import Recording, Shard, write_shard
from genie_gym.data.video import iterate_video, write_video
from genie_gym.data.video_shards import INDEX_FILE, read_video_outcomes
from genie_gym.envs.prompts import fit_prompt
from genie_gym.models.loading import read_world, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS

_CODES = {"codes": 8}
_WORLDS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "moving": {
        "latent_action_model": {
            "backbone": "moving",
            "quantizer": _CODES,
            "width": 8,
            "history": 2,
            "merged_actions": 4,
        }
    },
    "fsq": {"tokenizer.quantizer": {"kind": "fsq", "codes": 64, "levels": [4, 4, 4]}},
}
"""Changes of ``tiny`` by name: worlds with fields that it lacks."""
_PICTURES = ("png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm")
_VIDEOS = ("mp4", "gif")
_FRAMES = 24


class Target(NamedTuple):
    """A kind of file that strangers hand in."""

    prepare: Callable[[Path], None]
    """writes sound files into a folder"""
    damage: Callable[[np.random.Generator, Path], None]
    """damages the copy of such a folder"""
    use: Callable[[Path], object]
    """opens the folder's files and uses what it finds"""


def _prepare_worlds(folder: Path) -> None:
    for name, changes in _WORLDS.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            world = GenieWorldModel(vary(PRESETS["tiny"].world, changes), np.zeros((1, 2, 64, 64, 3), np.uint8))
        save_world(world.eval(), folder / name)


def _keep_one(rng: np.random.Generator, folder: Path) -> Path:
    """Keep one of a folder's entries, and return it."""
    every = sorted(folder.iterdir())
    kept = every[rng.integers(len(every))]
    for path in every:
        if path != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return kept


def _damage_config(rng: np.random.Generator, folder: Path) -> None:
    path = _keep_one(rng, folder) / "config.json"
    text = json.dumps(damage_values(rng, json.loads(path.read_text()))).encode()
    path.write_bytes(damage_bytes(rng, text) if rng.random() < 0.2 else text)


def _damage_weights(rng: np.random.Generator, folder: Path) -> None:
    world = _keep_one(rng, folder)
    files = sorted(world.glob("*.safetensors"))
    path = files[rng.integers(len(files))]
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    kind = rng.integers(4)
    if kind == 0:  # the list of tensors
        header = json.dumps(damage_values(rng, json.loads(data[8 : 8 + size]))).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])
    elif kind == 1:  # numbers that are none
        place = 8 + size + 4 * int(rng.integers((len(data) - 8 - size) // 4))
        wrong = struct.pack("<f", float(rng.choice([np.nan, np.inf, -np.inf, 1e38])))
        path.write_bytes(data[:place] + wrong + data[place + 4 :])
    elif kind == 2:  # a file beside the others
        shape = tuple(rng.integers(1, 9, size=rng.integers(1, 4)).tolist())
        name = ["dynamics.output_bias", "start_frames", "x"][rng.integers(3)]
        save_file({name: torch.zeros(shape)}, world / "zzz.safetensors")
    else:
        path.write_bytes(damage_bytes(rng, data))


def _use_world(folder: Path) -> None:
    for path in folder.iterdir():
        world = read_world(path)
        prompts = torch.zeros(1, 1, 3, world.config.height, world.config.width)
        state, _ = world.reset(prompts, [0])
        try:
            world.step(state, torch.zeros(1, dtype=torch.int64))
        except FloatingPointError as error:  # the documented end of play with weights that are finite and vast
            raise ValueError(str(error)) from error


def _prepare_shards(folder: Path) -> None:
    rng = np.random.default_rng(0)
    recording = Recording.allocate((_FRAMES,), 16, 16)
    for array in recording:
        array[...] = 0
    recording.frames[...] = rng.integers(0, 9, recording.frames.shape)
    recording.episode_starts[[0, 10]] = True
    write_shard(folder / "recording.h5", recording, ["a", "b"], {"game": "x", "seed": 3})
    videos = folder.parent / "converted"
    videos.mkdir()
    write_video(videos / "a.mp4", recording.frames, fps=10)
    os.utime(videos / "a.mp4", (0, 0))  # the shard holds the time, and a seed has to damage the same bytes
    settings = ConvertConfig(fps=5, size="16x16", clip_length=4)
    convert([videos / "a.mp4"], folder / "clips", settings, 1, progress=False)
    shutil.rmtree(videos)
    shutil.copy(folder / "recording.h5", folder / "old_recording.h5")
    age_shard(folder / "old_recording.h5")
    _age_clips(shutil.copytree(folder / "clips", folder / "old_clips"))


def age_shard(path: Path) -> None:
    """Make a shard one of version 1, whose texts have no fixed length."""
    with h5py.File(path, "r+") as file:
        texts = {name: value.decode() for name, value in file.attrs.items() if isinstance(value, bytes)}
        file.attrs.update({**texts, "version": 1})
        for name in [name for name in ("videos", "outcomes") if name in file]:
            text = file[name][()].decode()
            del file[name]
            file[name] = text


def _age_clips(folder: Path) -> None:
    index = json.loads((folder / INDEX_FILE).read_text())
    for name in index["shards"]:
        age_shard(folder / name)
        index["shards"][name] = (folder / name).stat().st_size
    (folder / INDEX_FILE).write_text(json.dumps(index))


def _damage_shards(rng: np.random.Generator, folder: Path) -> None:
    kept = _keep_one(rng, folder)
    paths = [kept] if kept.is_file() else sorted(kept.iterdir())
    path = paths[rng.integers(len(paths))]
    if path.suffix == ".json":
        path.write_text(json.dumps(damage_values(rng, json.loads(path.read_text()))))
    elif rng.random() < 0.6:
        path.write_bytes(damage_bytes(rng, path.read_bytes()))
    else:
        with h5py.File(path, "r+") as file:
            _damage_structure(rng, file)


def _damage_structure(rng: np.random.Generator, file: h5py.File) -> None:
    """Replace a dataset of a file by something else of its name, or an attribute."""
    names = [name for name in _list_datasets(file) if rng.random() < 0.5] or ["frames"]
    name = names[rng.integers(len(names))]
    shape = file[name].shape
    kind = rng.integers(9)
    if kind < 8:
        del file[name]
    if kind == 1:
        file[name] = h5py.ExternalLink("/etc/passwd", "/x")
    elif kind == 2:
        file[name] = h5py.SoftLink("/frames" if name != "frames" else "/nowhere")
    elif kind == 3:
        file.create_dataset(name, shape, np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    elif kind == 4:
        layout = h5py.VirtualLayout(shape or (1,), np.uint8)
        layout[...] = h5py.VirtualSource("/tmp/elsewhere.h5", "x", shape or (1,))
        file.create_virtual_dataset(name, layout)
    elif kind == 5:
        sizes = [int(rng.choice([0, 1, 16, 24, 10**6, 10**9])) for _ in shape or (1,)]
        chunks = tuple(min(max(each, 1), 64) for each in sizes)
        file.create_dataset(name, tuple(sizes), np.uint8, chunks=chunks, maxshape=(None,) * len(sizes))
    elif kind == 6:
        file[name] = np.zeros(3, rng.choice(["f4", "i8", "S3", "?"]))
    elif kind == 7:
        file.create_group(name)
    else:
        attribute = sorted(file.attrs)[rng.integers(len(file.attrs))]
        file.attrs[attribute] = [3, "x", "[" * 2000, np.zeros(9), "[1]", -1.5][rng.integers(6)]


def _list_datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
    return names


def _use_shards(folder: Path) -> None:
    for path in folder.iterdir():
        dataset = ClipDataset(path, clip_length=4, height=16, width=16)
        dataset[len(dataset) - 1]
        for file in [path] if path.is_file() else path.glob("*.h5"):
            shard = Shard(file)
            shard.read(0, shard.num_frames)
            if shard.is_recording:
                dataset.player(0), dataset.level(0), dataset.attribute(0, "seed"), shard.private(0, 4)
            else:
                read_video_outcomes(file)


def _prepare_videos(folder: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 9, (_FRAMES, 32, 48, 3), np.uint8)
    frames[:, :, :24] //= 2
    for kind in _VIDEOS:
        write_video(folder / f"a.{kind}", frames, fps=10)


def _damage_file(rng: np.random.Generator, folder: Path) -> None:
    path = _keep_one(rng, folder)
    path.write_bytes(damage_bytes(rng, path.read_bytes()))


def _use_videos(folder: Path) -> None:
    for path in folder.iterdir():
        for _ in iterate_video(path, fps=10):
            pass


def _prepare_pictures(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for kind in _PICTURES:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=kind)
        suffix = "png" if kind == "gif" else kind  # a .gif is read as a video
        (folder / f"{kind}.{suffix}").write_bytes(file.getvalue())


def _use_prompts(folder: Path) -> None:
    for path in folder.iterdir():
        fit_prompt(path, 64, 64, fit="crop")
        fit_prompt(path, 64, 64, fit="pad")


TARGETS: dict[str, Target] = {
    "config": Target(_prepare_worlds, _damage_config, _use_world),
    "weights": Target(_prepare_worlds, _damage_weights, _use_world),
    "shard": Target(_prepare_shards, _damage_shards, _use_shards),
    "video": Target(_prepare_videos, _damage_file, _use_videos),
    "prompt": Target(_prepare_pictures, _damage_file, _use_prompts),
}
"""Kinds of files by name. Another kind, such as messages to the page's server, is one more entry."""
