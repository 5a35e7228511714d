"""Shards from strangers: nothing that they point to is read, and nothing that they do not hold is allocated."""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from genie_gym.data.clips import ClipDataset
from genie_gym.data.shards import Recording, Shard, copy_frames, write_shard
from genie_gym.data.video_shards import VideoOutcome, read_video_outcomes

FIELDS = ("frames", "episode_starts", "level_seeds", "player", "private/real_actions", "private/rewards")
Make = Callable[..., Recording]


def read_all(path: Path) -> None:
    """Read what a training and an evaluation read."""
    dataset = ClipDataset(path, clip_length=4)
    shard = Shard(path)
    assert shard.read(0, shard.num_frames).shape == (65, 64, 64, 3)
    for index in (0, len(dataset) - 1):
        dataset[index], dataset.player(index), dataset.level(index), dataset.attributes(index)
    shard.private(0, 4)


def link(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(str(other), name)


def link_inside(file: h5py.File, name: str, other: Path) -> None:
    file["elsewhere"] = np.zeros(65)
    file[name] = h5py.SoftLink("/elsewhere")


def store_elsewhere(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (65,), np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def make_virtual(file: h5py.File, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout((65,), np.uint8)
    layout[...] = h5py.VirtualSource(str(other), name, (65,))
    file.create_virtual_dataset(name, layout)


def claim_vast(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (10**12,), np.uint8)


def claim_vast_chunks(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (10**9,), np.uint8, chunks=(1 << 20,), compression="gzip")


def store_packed(file: h5py.File, name: str, other: Path) -> None:
    """HDF5 unpacks a chunk to any size: of all datasets, only frames may lie in some, which are not left to it."""
    file.create_dataset(name, data=np.zeros(65, np.uint8), chunks=(65,), compression="gzip")


def make_group(file: h5py.File, name: str, other: Path) -> None:
    file.create_group(name)


def leave_out(file: h5py.File, name: str, other: Path) -> None:
    pass


REPLACEMENTS = [
    link,
    link_inside,
    store_elsewhere,
    make_virtual,
    claim_vast,
    claim_vast_chunks,
    store_packed,
    make_group,
    leave_out,
]


@pytest.mark.parametrize("replace", REPLACEMENTS)
@pytest.mark.parametrize("name", FIELDS)
def test_a_dataset_that_is_no_plain_one_is_refused_by_name(
    shard_path: Path, tmp_path: Path, name: str, replace: Callable[[h5py.File, str, Path], None]
) -> None:
    other = tmp_path / "other.hdf"
    other.write_bytes(shard_path.read_bytes())
    read_all(shard_path)
    with h5py.File(shard_path, "r+") as file:
        del file[name]
        replace(file, name, other)
    with pytest.raises(ValueError, match=rf"^{shard_path}: .*({name.rpartition('/')[2]}|elsewhere)"):
        read_all(shard_path)


def test_a_private_group_that_is_a_link_is_refused(shard_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hdf"
    other.write_bytes(shard_path.read_bytes())
    with h5py.File(shard_path, "r+") as file:
        del file["private"]
        file["private"] = h5py.ExternalLink(str(other), "private")
    with pytest.raises(ValueError, match=r"shard-00000\.h5: .*private must lie in the file itself"):
        Shard(shard_path).private(0, 4)


@pytest.mark.parametrize("name", FIELDS[1:])
def test_only_frames_may_lie_in_chunks(shard_path: Path, name: str) -> None:
    with h5py.File(shard_path, "r+") as file:
        values = file[name][:]
        del file[name]
        file.create_dataset(name, data=values, chunks=(65,), compression="gzip")
    with pytest.raises(
        ValueError, match=rf"^{shard_path}: .*{name.rpartition('/')[2]} must be .* in chunks of \(65,\)"
    ):
        read_all(shard_path)


def test_names_in_a_heap_are_refused(tmp_path: Path, shard_path: Path) -> None:
    """HDF5 unpacks packed heaps to any size."""
    attributes, names = tmp_path / "attributes.h5", tmp_path / "names.h5"
    with h5py.File(attributes, "w", libver="latest") as file:
        file.attrs.update({f"name {number}": number for number in range(20)})
    with h5py.File(names, "w", libver="latest") as file:
        for number in range(20):
            file.create_group(f"name {number}")
    with h5py.File(shard_path, "r+", libver="latest") as file:
        del file["private"]
        for number in range(20):
            file.create_group(f"private/name {number}")
    for path in (attributes, names):
        with pytest.raises(ValueError, match=rf"^{path}: .*group / must hold names and attributes in its header"):
            Shard(path)
    with pytest.raises(ValueError, match=r"shard-00000\.h5: .*group /private must hold names and attributes"):
        Shard(shard_path).private(0, 4)


def test_a_chunk_that_unpacks_to_more_than_its_frames_is_refused(tmp_path: Path, make_recording: Make) -> None:
    """2 GB of zeros are 2 MB in gzip: no more than the chunk's size is unpacked."""
    path, recording = tmp_path / "a.h5", make_recording()
    write_shard(path, recording._replace(frames=np.zeros_like(recording.frames)), ["a", "b"])
    bomb = zlib.compress(bytes(1 << 26), 9)
    with h5py.File(path, "r+") as file:
        file["frames"].id.write_direct_chunk((16, 0, 0, 0), bomb)
    shard = Shard(path)
    shard.read(0, 16)
    with pytest.raises(ValueError, match=r"a\.h5: frames from 16 on are corrupt"):
        shard.read(16, 17)


def test_frames_of_vast_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", (16, 9000, 9000, 3), np.uint8, chunks=(16, 9000, 9000, 3), compression="gzip")
        file.attrs.update(format="genie-gym shard", version=1, players="[]")
        file["padding"] = np.ones(1 << 22, np.uint8)
    with pytest.raises(ValueError, match=r"a\.h5: frames must have up to 8388608 pixels, got \(9000, 9000\)"):
        Shard(path)


@pytest.mark.parametrize(
    "value", [np.zeros(9), np.zeros((2, 2)), ["a", "b"], h5py.Empty("f4"), np.array([(1, 2)], "i4,f4")]
)
@pytest.mark.parametrize("name", ["format", "version", "players", "game"])
def test_attributes_that_are_no_texts_and_numbers_are_refused(shard_path: Path, name: str, value: Any) -> None:
    with h5py.File(shard_path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(ValueError, match=rf"^{shard_path}: .*attribute '{name}'"):
        Shard(shard_path)


@pytest.mark.parametrize("players", ["", "[", "[" * 20_000, "{}", "[3]", "null", "\ufffd", '[["a"]]'])
def test_players_that_are_no_names_are_refused(shard_path: Path, players: str) -> None:
    with h5py.File(shard_path, "r+") as file:
        file.attrs["players"] = players
    with pytest.raises(ValueError, match=rf"^{shard_path}: "):
        Shard(shard_path)


def test_a_player_without_a_name_is_refused(shard_path: Path) -> None:
    with h5py.File(shard_path, "r+") as file:
        file["player"][3] = 2
    with pytest.raises(ValueError, match=r"shard-00000\.h5: player must be below 2, got 2"):
        ClipDataset(shard_path, clip_length=4).player(0)


def test_frames_before_the_first_episode_are_refused(shard_path: Path) -> None:
    with h5py.File(shard_path, "r+") as file:
        file["episode_starts"][0] = False
    with pytest.raises(ValueError, match=r"shard-00000\.h5: episode_starts\[0\] must be True"):
        Shard(shard_path)


@pytest.mark.timeout(300)  # a pipe would be waited for
def test_files_that_are_something_else_are_told_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"a\.h5: must be a regular file"):
        Shard(path)
    path.unlink()
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    for use in (Shard, read_video_outcomes, lambda path: copy_frames(path, tmp_path / "b.h5")):
        with pytest.raises(ValueError, match=r"a\.h5: not a whole HDF5 file: it is a Git LFS pointer"):
            use(path)
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(20 << 30)
    with pytest.raises(ValueError, match=r"a\.h5: not a whole HDF5 file"):
        Shard(path)


OUTCOME = list(VideoOutcome("a.mp4", 3, 3, 8, 8, ""))


@pytest.mark.parametrize("number", range(len(OUTCOME) + 1))
@pytest.mark.parametrize("value", [None, -1, 1.5, [], {}, True, 2**70])
def test_outcomes_of_videos_of_wrong_types_are_refused(tmp_path: Path, number: int, value: Any) -> None:
    outcome = [*OUTCOME[:number], value, *OUTCOME[number + 1 :]]
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        file["outcomes"], file["videos"] = json.dumps([outcome]), "[]"
        file.attrs["settings"] = "{}"
    with pytest.raises(ValueError, match=r"clips\.h5: not a whole shard of videos"):
        read_video_outcomes(path)
