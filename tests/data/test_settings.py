"""Tests that clips of another frame rate, size or fit are refused by name, and that sizes and rates have bounds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import Prepared, convert, prepare_clips
from genie_gym.data.manifest import Chosen, write_manifest
from genie_gym.data.shards import Recording, write_shard
from genie_gym.data.video import write_video

CONFIG = ConvertConfig(fps=5, size="16x24", clip_length=4)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of 20 frames at 10 a second."""
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", np.zeros((20, 16, 24, 3), np.uint8), fps=10)
    return tmp_path / "videos" / "a.mp4"


@pytest.fixture
def clips(video: Path, tmp_path: Path) -> Path:
    """Return a folder of clips of the video at 5 frames a second."""
    return convert(video, tmp_path / "clips", CONFIG, 1, progress=False).folder


def prepare(paths: Any, cache: Path, **changes: Any) -> Prepared:
    return prepare_clips(paths, cache, replace(CONFIG, **changes), lambda line: None, 1)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"fps": 10}, "--fps 10.0 --size 16x24 --fit crop"),
        ({"fps": 5.001}, "--fps 5.001 --size 16x24 --fit crop"),
        ({"size": "16x16"}, "--fps 5.0 --size 16x16 --fit crop"),
        ({"size": "32x48"}, "--fps 5.0 --size 32x48 --fit crop"),
        ({"fit": "pad"}, "--fps 5.0 --size 16x24 --fit pad"),
    ],
)
@pytest.mark.parametrize("named", ["folder", "file", "above"])
def test_clips_of_other_settings_are_refused_and_both_are_named(
    clips: Path, tmp_path: Path, changes: dict[str, Any], asked: str, named: str
) -> None:
    """Before any video beside them is converted."""
    (tmp_path / "above").mkdir()
    clips = clips.rename(tmp_path / "above" / "clips")
    paths = {"folder": clips, "file": next(clips.glob("*.h5")), "above": tmp_path / "above"}
    with pytest.raises(
        ValueError, match=rf"clips was converted with --fps 5.0 --size 16x24 --fit crop, but {asked} is"
    ):
        prepare([paths[named], tmp_path / "videos"], tmp_path / "cache", **changes)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("fps", [5, 5.0, None])
def test_clips_of_the_same_settings_and_rate_are_taken(clips: Path, tmp_path: Path, fps: float | None) -> None:
    prepared = prepare(clips, tmp_path / "cache", fps=fps)
    assert prepared == (sorted(clips.glob("*.h5")), 5.0)
    assert len(prepare([clips, tmp_path / "videos"], tmp_path / "cache", fps=fps).files) == 2
    assert ClipDataset(tmp_path / "cache", clip_length=10, height=16, width=24).num_frames == 10  # at 5, not 10


def test_a_whole_number_and_a_fraction_are_one_rate(video: Path, clips: Path) -> None:
    before = sorted(clips.iterdir())
    convert(video, clips, replace(CONFIG, fps=5.0), 1, progress=False)
    assert sorted(clips.iterdir()) == before


@pytest.mark.parametrize("spans", [None, ((2, 8),)])
def test_a_manifest_gives_its_rate_where_none_is_asked_for(video: Path, tmp_path: Path, spans: Any) -> None:
    path = tmp_path / "chosen.jsonl"
    write_manifest(path, [Chosen(video, spans)], 5.0, {})
    frames = 10 if spans is None else 6
    assert prepare(path, tmp_path / "none", fps=None).fps == 5.0
    assert ClipDataset(tmp_path / "none", clip_length=4, height=16, width=24).num_frames == frames
    assert prepare(path, tmp_path / "other", fps=10).fps == 10
    assert ClipDataset(tmp_path / "other", clip_length=4, height=16, width=24).num_frames == 2 * frames - bool(spans)


def test_rates_that_differ_are_named(video: Path, clips: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "chosen.jsonl", [Chosen(video, ((0, 4),))], 10.0, {})
    with pytest.raises(ValueError, match=r"frames per second of the data must be equal.*10.0.*5.0"):
        prepare([clips, tmp_path / "chosen.jsonl"], tmp_path / "cache", fps=None)


def test_recordings_have_no_rate_and_are_taken_at_any(tmp_path: Path, make_recording: Any) -> None:
    recording: Recording = make_recording()
    write_shard(tmp_path / "a.h5", recording, ["left", "right"])
    for fps in (None, 5):
        assert prepare(tmp_path, tmp_path / "cache", fps=fps) == ([tmp_path / "a.h5"], fps)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("fps", [0, -1, float("nan"), float("inf"), 1e9, 1000.1, "10", True]),
        ("size", ["20000x20000", "99999x22", "1x99999999", "2097153x1", "0x0", "-4x4", "4.5x4", ""]),
        ("clip_length", [0, -1]),
        ("fit", ["stretch", None, 1]),
        ("on_broken", ["ignore", None]),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"ConvertConfig.{field} must be"):
            replace(CONFIG, **{field: value})


@pytest.mark.parametrize("size", ["1080x1920", "1448x1448", "1x99999"])
def test_frames_of_full_hd_are_within_the_bounds(size: str) -> None:
    settings = ConvertConfig(size=size).settings()
    assert f"{settings.height}x{settings.width}" == size
    assert json.loads(settings.to_json())["fps"] == 10.0
