"""Tests that damage of any field of an index of clips or of a manifest is told in one line that names the file."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import convert, prepare_clips
from genie_gym.data.manifest import Chosen, read_manifest, write_manifest
from genie_gym.data.video import write_video

CONFIG = ConvertConfig(fps=5, size="16x24", clip_length=40, on_broken="skip")
OTHERS: list[Any] = [
    None,
    True,
    -1,
    0,
    7,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "x",
    "\ud800",
    [],
    {},
]
OTHERS += [[None], [[]], {"x": None}, {"": {}}, 10**400, [[0, 10**30]], "../a.mp4", "a" * 5000 + ".mp4", "a\0.mp4"]
"""Values of all types and of none that a field has."""

Path_ = tuple[str | int, ...]


def fields(values: Any, above: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of each field of JSON values, at any depth."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for name, value in inner:
        yield (*above, name)
        yield from fields(value, (*above, name))


def damage(values: Any, path: Path_) -> Iterator[Any]:
    """Yield copies of JSON values without a field, and with each of ``OTHERS`` in its place."""
    for other in [..., *OTHERS]:
        damaged = copy.deepcopy(values)
        inner = damaged
        for name in path[:-1]:
            inner = inner[name]
        if other is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = other
        yield damaged


def count_refusals(read: Callable[[], Any], name: str) -> int:
    """Return 1 if a file is refused by name, 0 if it is read; anything else fails."""
    try:
        read()
    except ValueError as error:
        told = str(error)
    else:
        return 0
    assert name in told
    return 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of a video, its clips, and a manifest of it; another video is broken and left out."""
    write_video(tmp_path / "a.mp4", np.zeros((20, 32, 24, 3), np.uint8), fps=10)
    (tmp_path / "b.mp4").write_bytes(b"cut")
    convert([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "clips", CONFIG, 1, progress=False)
    (tmp_path / "b.mp4").unlink()
    write_manifest(tmp_path / "m.jsonl", [Chosen(tmp_path / "a.mp4", ((0, 4), (5, 9)), (0.5, 1.0))], 5.0, {"by": "me"})
    return tmp_path


def test_any_damage_of_an_index_is_refused_by_name(folder: Path) -> None:
    path = folder / "clips" / "clips.json"
    values = json.loads(path.read_text())
    is_harmless = {
        ("report", name) for name in ("videos", "frames", "bytes", "clip_length", "fitted", "short", "broken")
    }
    every = list(fields(values))
    assert {("digest",), ("shards",), ("report", "settings", "fit"), ("report", "short", "a.mp4")} <= set(every)
    for field in every:
        refused = 0
        for damaged in damage(values, field):
            path.write_text(json.dumps(damaged))
            for read in (
                lambda: ClipDataset(folder / "clips", clip_length=4, height=16, width=24),
                lambda: prepare_clips(folder / "clips", folder / "cache", CONFIG, print, 1),
            ):
                refused += count_refusals(read, "clips.json" if field[:2] != ("report", "settings") else "clips")
        assert refused >= (len(OTHERS) if field[:2] not in is_harmless else 1), field


def test_any_damage_of_an_index_is_converted_anew_or_refused_by_name(folder: Path) -> None:
    """What is right by its type, such as another digest, is written anew."""
    path = folder / "clips" / "clips.json"
    convert(folder / "a.mp4", folder / "clips", CONFIG, 1, progress=False)
    values = json.loads(path.read_text())
    for field in fields(values):
        for damaged in damage(values, field):
            path.write_text(json.dumps(damaged))
            if not count_refusals(
                lambda: convert(folder / "a.mp4", folder / "clips", CONFIG, 1, progress=False), "clips.json"
            ):
                ClipDataset(folder / "clips", clip_length=4, height=16, width=24)


def test_any_damage_of_a_manifest_is_refused_by_name_or_read(folder: Path) -> None:
    path = folder / "m.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, values in enumerate(lines):
        for field in [(), *fields(values)] if number else fields(values):
            refused = 0
            for damaged in damage(values, field) if field else OTHERS:
                text = [json.dumps(each) for each in [*lines[:number], damaged, *lines[number + 1 :]]]
                path.write_text("\n".join(text) + "\n")
                refused += count_refusals(lambda: read_manifest(path), "m.jsonl")
                count_refusals(lambda: ClipDataset(path, clip_length=4, height=16, width=24), "")
            is_unread = field[:1] in (("about",), ("scores",))
            assert is_unread or refused >= len(OTHERS) // 2, field


@pytest.mark.parametrize("fps", [float("inf"), float("nan"), -float("inf"), -1, 0, 1e9, True, "10", [10], {}, 10**400])
def test_a_manifest_of_no_frame_rate_is_refused(folder: Path, fps: Any) -> None:
    path = folder / "m.jsonl"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(head), "fps": fps}), *lines]))
    with pytest.raises(ValueError, match=r"m\.jsonl, line 1: fps must be a number in \(0, 1000\]"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", "7", '"x"', "[]", "{}", "\xff", "1" * 10_000])
@pytest.mark.parametrize("name", ["m.jsonl", "clips/clips.json"])
def test_a_file_that_holds_something_else_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=Path(name).name):
        ClipDataset(folder / Path(name).parts[0], clip_length=4, height=16, width=24)


def test_a_clip_that_ends_late_costs_no_memory(folder: Path) -> None:
    write_manifest(folder / "m.jsonl", [Chosen(folder / "a.mp4", ((0, 10**15),))], 5.0, {})
    with pytest.raises(ValueError, match=r"a.mp4: has 10 frames, and its clips end at 10"):
        ClipDataset(folder / "m.jsonl", clip_length=4, height=16, width=24)
