"""Shards of version 1, whose texts have no fixed length: they are read as before, and what they claim is not believed.

HDF5 would allocate the length that a text claims, and never come back from some of these files.
"""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiments.trust.targets import age_shard
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import convert
from genie_gym.data.frame_writer import FrameWriter
from genie_gym.data.record import record
from genie_gym.data.shards import Recording, Shard, copy_frames, write_shard
from genie_gym.data.video import write_video
from genie_gym.data.video_shards import INDEX_FILE, read_video_outcomes
from genie_gym.players.specs import parse_share
from tests.data.conftest import SMALL

POINTER = struct.Struct("<IQI")
"""What stands in the place of a text: its bytes, the address of its heap, and its number there."""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Return a folder of one converted video."""
    write_video(tmp_path / "a.mp4", np.zeros((12, 16, 16, 3), np.uint8), fps=10)
    convert(tmp_path / "a.mp4", tmp_path / "clips", ConvertConfig(fps=5, size="16x16", clip_length=4), 1)
    return tmp_path / "clips"


def find_shard(folder: Path) -> Path:
    (path,) = folder.glob("*.h5")
    return path


def list_open_texts(path: Path) -> list[str]:
    """Return the names of a file's texts that have no fixed length."""
    found: list[str] = []

    def note(name: str, item: h5py.HLObject) -> None:
        kinds = {f"{name}@{each}": item.attrs.get_id(each).dtype for each in item.attrs}
        kinds |= {name: item.dtype} if isinstance(item, h5py.Dataset) else {}
        texts = {each: h5py.check_string_dtype(kind) for each, kind in kinds.items()}
        found.extend(each for each, text in texts.items() if text is not None and text.length is None)

    with h5py.File(path) as file:
        note("", file)
        file.visititems(note)
    return found


def test_every_writer_gives_texts_a_fixed_length(shard_path: Path, clips: Path, tmp_path: Path) -> None:
    copy_frames(shard_path, tmp_path / "copy.h5")
    with FrameWriter(tmp_path / "written", "16x16") as writer:
        writer.add(np.zeros((16, 16, 3), np.uint8))
    paths = [shard_path, tmp_path / "copy.h5", find_shard(clips), find_shard(tmp_path / "written")]
    assert [list_open_texts(path) for path in paths] == [[], [], [], []]
    for path in paths:
        age_shard(path)
    counted = [len(list_open_texts(path)) for path in paths]
    assert counted == [3, 3, 4, 4], "the former version had them, and they are found"


def test_texts_of_all_kinds_come_back(tmp_path: Path, make_recording: Callable[..., Recording]) -> None:
    path = tmp_path / "a.h5"
    texts = {"empty": "", "umlaut": "Bär 🐻", "long": "x" * 60_000, "number": 3}
    write_shard(path, make_recording(), ["ä", 'b"'], texts)
    copy_frames(path, tmp_path / "copy.h5")
    for each in (path, tmp_path / "copy.h5"):
        assert texts.items() <= Shard(each).attributes.items()
        assert Shard(each).players == ["ä", 'b"']


@pytest.mark.parametrize("text", ["x" * 64_001, "ä" * 32_001, "a\0b", "a\0"])
def test_texts_that_cannot_be_kept_are_refused(
    tmp_path: Path, make_recording: Callable[..., Recording], text: str
) -> None:
    with pytest.raises(ValueError, match="game"):
        write_shard(tmp_path / "a.h5", make_recording(), ["a", "b"], {"game": text})
    assert not list(tmp_path.iterdir())


def test_an_old_recording_is_read_and_copied_as_a_new_one(shard_path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old" / "shard-00000.h5"
    old.parent.mkdir()
    shutil.copy(shard_path, old)
    age_shard(old)
    shards = [Shard(shard_path), Shard(old)]
    assert [shard.attributes.pop("version") for shard in shards] == [2, 1]
    assert shards[0].attributes == shards[1].attributes
    assert shards[0].players == shards[1].players == ["left", "right"]
    assert np.array_equal(shards[0].read(0, 65), shards[1].read(0, 65))
    clips = [ClipDataset(path, clip_length=4) for path in (shard_path, old)]
    assert np.array_equal(clips[0][7], clips[1][7])
    for path in (shard_path, old):
        copy_frames(path, path.with_name("copy.hdf"))
    assert shard_path.with_name("copy.hdf").read_bytes() == old.with_name("copy.hdf").read_bytes()


def test_old_recordings_are_gone_on_with(recorded: Path, tmp_path: Path) -> None:
    out = shutil.copytree(recorded, tmp_path / "recorded")
    paths = sorted(out.glob("*.h5"))
    for path in paths:
        age_shard(path)
    aged = [path.read_bytes() for path in paths]
    paths[1].unlink()
    record(SMALL, [parse_share("sticky=3"), parse_share("random")], out, progress=False)
    assert [path.read_bytes() for path in paths] == [aged[0], (recorded / paths[1].name).read_bytes(), aged[2]]
    for session in range(2):
        with FrameWriter(tmp_path / "written", "16x16") as writer:
            writer.add(np.zeros((16, 16, 3), np.uint8))
        age_shard(sorted((tmp_path / "written").glob("*.h5"))[session])
    with pytest.raises(ValueError, match=r"has frames of .*16x16.*, not .*32x32"):
        FrameWriter(tmp_path / "written", "32x32")


def test_old_clips_are_not_converted_again(clips: Path, tmp_path: Path) -> None:
    path = find_shard(clips)
    outcomes = read_video_outcomes(path)
    age_shard(path)
    index = json.loads((clips / INDEX_FILE).read_text())
    index["shards"][path.name] = path.stat().st_size
    (clips / INDEX_FILE).write_text(json.dumps(index))
    assert read_video_outcomes(path) == outcomes
    before = path.read_bytes()
    for loses_index in (False, True):
        if loses_index:
            (clips / INDEX_FILE).unlink()
        convert(tmp_path / "a.mp4", clips, ConvertConfig(fps=5, size="16x16", clip_length=4), 1)
        assert find_shard(clips).read_bytes() == before
    assert len(ClipDataset(clips, clip_length=4, height=16, width=16)) > 0


def claim_much(data: bytearray, pointer: int, text: int) -> None:
    struct.pack_into("<I", data, pointer, 2**32 - 1)


def claim_one_more(data: bytearray, pointer: int, text: int) -> None:
    length, *rest = POINTER.unpack_from(data, pointer)
    POINTER.pack_into(data, pointer, length + 1, *rest)


def claim_all(data: bytearray, pointer: int, text: int) -> None:
    struct.pack_into("<I", data, pointer, 2**32 - 1)
    struct.pack_into("<Q", data, text - 8, 2**32 - 1)


def point_nowhere(data: bytearray, pointer: int, text: int) -> None:
    struct.pack_into("<Q", data, pointer + 4, 2**64 - 1)


def point_beside_the_heap(data: bytearray, pointer: int, text: int) -> None:
    struct.pack_into("<Q", data, pointer + 4, 0)


def name_no_text(data: bytearray, pointer: int, text: int) -> None:
    struct.pack_into("<I", data, pointer + 12, 60_000)


def vast_heap(data: bytearray, pointer: int, text: int) -> None:
    struct.pack_into("<Q", data, POINTER.unpack_from(data, pointer)[1] + 8, 2**63)


def heap_without_end(data: bytearray, pointer: int, text: int) -> None:
    """Every size in the heap is the largest one, which HDF5 rounds up to none."""
    heap = POINTER.unpack_from(data, pointer)[1]
    data[heap + 16 : heap + 4096] = b"\xff" * 4080


def no_text_in_utf8(data: bytearray, pointer: int, text: int) -> None:
    data[text] = 0xFF


DAMAGES = [
    claim_much,
    claim_one_more,
    claim_all,
    point_nowhere,
    point_beside_the_heap,
    name_no_text,
    no_text_in_utf8,
]
HEAP_DAMAGES = [vast_heap, heap_without_end]
"""Damages of all texts in a heap."""


def damage_text(path: Path, text: bytes, damage: Callable[[bytearray, int, int], None]) -> None:
    """Damage a text of a file, or what points to it."""
    data = bytearray(path.read_bytes())
    for found in re.finditer(re.escape(text), data):
        heap = data.rfind(b"GCOL", 0, found.start())
        (number,) = struct.unpack_from("<H", data, found.start() - 16)
        pointer = data.find(POINTER.pack(len(text), max(heap, 0), number))
        if pointer >= 0:
            damage(data, pointer, found.start())
            path.write_bytes(data)
            return
    raise AssertionError(f"no heap holds {text!r}")


@pytest.mark.timeout(300)  # HDF5 would not come back from some
@pytest.mark.parametrize("damage", DAMAGES + HEAP_DAMAGES)
@pytest.mark.parametrize(("name", "text"), [("game", b"coinrun"), ("players", b'["left", "right"]')])
def test_an_attribute_that_is_not_whole_is_refused_by_name(
    shard_path: Path, name: str, text: bytes, damage: Callable[[bytearray, int, int], None]
) -> None:
    age_shard(shard_path)
    damage_text(shard_path, text, damage)
    named = "(format|game|players)" if damage in HEAP_DAMAGES else name
    with pytest.raises(ValueError, match=rf"^{shard_path}: .*attribute '{named}'"):
        Shard(shard_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("damage", DAMAGES + HEAP_DAMAGES)
@pytest.mark.parametrize("name", ["videos", "outcomes"])
def test_a_text_that_is_not_whole_is_refused_by_name(
    clips: Path, name: str, damage: Callable[[bytearray, int, int], None]
) -> None:
    path = find_shard(clips)
    age_shard(path)
    with h5py.File(path) as file:
        text = file[name][()]
    damage_text(path, text, damage)
    named = "(videos|outcomes)" if damage in HEAP_DAMAGES else name
    with pytest.raises(ValueError, match=rf"^{path}: .*{named}"):
        read_video_outcomes(path)


@pytest.mark.timeout(300)
def test_headers_that_go_on_without_end_are_refused(shard_path: Path) -> None:
    age_shard(shard_path)
    data = bytearray(shard_path.read_bytes())
    (start,) = struct.unpack_from("<Q", data, 64)
    struct.pack_into("<HHB", data, start + 16, 0x10, 16, 0)
    struct.pack_into("<QQ", data, start + 24, start + 16, 24)
    shard_path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{shard_path}: "):
        Shard(shard_path)
