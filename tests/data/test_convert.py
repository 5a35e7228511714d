"""Tests that a conversion keeps what the reader shows, reads nothing twice, and never hands out old or partial data."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_gym.data import video_shards
from genie_gym.data.clips import ClipDataset, batches
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import convert, prepare_clips
from genie_gym.data.shards import Shard
from genie_gym.data.video import read_video, write_video
from genie_gym.system import lock_folder
from tests.data.video_files import encode, numbered

CONFIG = ConvertConfig(fps=None, size="16x24", clip_length=4)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return a folder of five videos, one of them in a subfolder."""
    folder, rng = tmp_path / "videos", np.random.default_rng(0)
    (folder / "b").mkdir(parents=True)
    for name, count, size in [("a.mp4", 30, (32, 48)), ("b/x.gif", 7, (16, 24)), ("c.mp4", 3, (20, 20))]:
        write_video(folder / name, rng.integers(256, size=(count, *size, 3), dtype=np.uint8) // 64 * 64, fps=10)
    encode(folder / "d.mkv", numbered(9), fps=10)
    encode(folder / "e.m4v", numbered(18), "mpeg4", "yuv420p", fps=30)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the videos that were opened since, in order."""
    names: list[str] = []
    iterate = video_shards.iterate_video

    def note(path: str, fps: float | None) -> Iterator[np.ndarray]:
        names.append(Path(path).name)
        return iterate(path, fps)

    monkeypatch.setattr(video_shards, "iterate_video", note)
    return names


def _convert(videos: Path, out: Path, **changes: Any) -> list[str]:
    return convert(videos, out, replace(CONFIG, **changes), workers=1, progress=False).lines


def test_converted_videos_give_the_same_batches_as_the_videos(videos: Path, tmp_path: Path) -> None:
    direct = ClipDataset(videos, clip_length=4, height=16, width=24)
    _convert(videos, tmp_path / "clips")
    clips = ClipDataset(tmp_path / "clips", clip_length=4, height=16, width=24)
    assert clips.num_frames == direct.num_frames == 67
    assert clips.holds_videos
    for one, other in zip(batches(clips, 5, 3, 7, 9), batches(direct, 5, 3, 7, 9), strict=True):
        assert torch.equal(one.numbers, other.numbers)
        assert torch.equal(one.videos, other.videos)
    with pytest.raises(ValueError, match="is a video: it has no players"):
        clips.player(0)


def test_shards_do_not_depend_on_the_number_of_processes(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genie_gym.data.convert._GROUP_VIDEOS", 2)
    one, two = (convert(videos, tmp_path / str(n), CONFIG, n, progress=False).shards for n in (1, 2))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len(one) == 3


def test_frames_are_taken_by_time_and_fitted(videos: Path, tmp_path: Path) -> None:
    lines = _convert(videos, tmp_path / "clips", fps=10, size="16x16", fit="pad")
    dataset = ClipDataset(tmp_path / "clips", clip_length=1, height=16, width=16)
    assert dataset.num_frames == 30 + 7 + 3 + 9 + 6  # e.m4v has 18 frames at 30 a second
    assert any("1 video: 48 x 32 pixels, 16 rows added, scaled to 16 x 16" in line for line in lines)


def test_short_videos_are_named(videos: Path, tmp_path: Path) -> None:
    lines = "\n".join(_convert(videos, tmp_path / "clips"))
    assert "1 video too short for a clip of 4 frames:\n    c.mp4 (3)" in lines
    assert "2 videos too short for a clip of 8 frames" in "\n".join(_convert(videos, tmp_path / "clips", clip_length=8))


def test_all_broken_videos_are_named_at_once_or_left_out(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "d.mkv").read_bytes()
    (videos / "b" / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (videos / "nothing.webm").write_bytes(b"")
    (videos / "._a.mp4").write_bytes(b"macOS")
    with pytest.raises(
        ValueError, match=r"(?s)2 of 7 videos are broken.*b/cut.mkv: is cut short.*nothing.webm: .*empty"
    ):
        _convert(videos, tmp_path / "clips")
    with pytest.raises(ValueError, match="conversion is not finished"):
        ClipDataset(tmp_path / "clips", clip_length=4)
    lines = _convert(videos, tmp_path / "clips", on_broken="skip")
    assert "5 of 7 videos" in lines[0]
    assert [line for line in lines if "cut.mkv: is cut short" in line]
    assert ClipDataset(tmp_path / "clips", clip_length=4, height=16, width=24).num_frames == 67
    with pytest.raises(ValueError, match="2 of 7 videos are broken"):
        _convert(videos, tmp_path / "clips")
    with pytest.raises(ValueError, match=r"(?s)cut.mkv.*nothing.webm"):
        ClipDataset(videos, clip_length=4)


def test_frames_of_a_video_that_breaks_late_are_removed(tmp_path: Path) -> None:
    """Its first frames are written already when the damage is found."""
    (tmp_path / "videos").mkdir()
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        encode(tmp_path / "videos" / name, numbered(200 if name == "b.mkv" else 20), fps=10)
    cut = tmp_path / "videos" / "b.mkv"
    cut.write_bytes(cut.read_bytes()[: int(0.9 * cut.stat().st_size)])
    _convert(tmp_path / "videos", tmp_path / "clips", on_broken="skip")
    dataset = ClipDataset(tmp_path / "clips", clip_length=20, height=16, width=24)
    assert len(dataset) == 2
    assert [clip[:, 0, 0, 0].tolist() for clip in (dataset[0], dataset[1])] == [list(range(20))] * 2


def test_a_second_run_reads_no_video(videos: Path, tmp_path: Path, opened: list[str]) -> None:
    _convert(videos, tmp_path / "clips")
    assert sorted(opened) == ["a.mp4", "c.mp4", "d.mkv", "e.m4v", "x.gif"]
    opened.clear()
    first = ClipDataset(tmp_path / "clips", clip_length=4).fingerprint
    _convert(videos, tmp_path / "clips")
    _convert(videos, tmp_path / "clips", clip_length=5)
    assert opened == []
    assert ClipDataset(tmp_path / "clips", clip_length=4).fingerprint == first


@pytest.mark.parametrize("change", ["touch", "add", "remove", "lose", "cut"])
def test_only_what_changed_is_converted_again(
    videos: Path, tmp_path: Path, opened: list[str], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards hold a.mp4 and x.gif, c.mp4 and d.mkv, and e.m4v."""
    monkeypatch.setattr("genie_gym.data.convert._GROUP_VIDEOS", 2)
    out = tmp_path / "clips"
    shards = convert(videos, out, CONFIG, 1, progress=False).shards
    opened.clear()
    expected = ["c.mp4", "d.mkv"]
    if change == "touch":
        os.utime(videos / "d.mkv", ns=(0, 0))
    elif change == "add":
        write_video(videos / "c2.mp4", read_video(videos / "c.mp4"))
        expected = ["c2.mp4"]
    elif change == "remove":
        (videos / "d.mkv").unlink()
        expected = ["c.mp4"]
    elif change == "lose":
        shards[1].unlink()
    else:
        shards[1].write_bytes(shards[1].read_bytes()[:-100])
    again = convert(videos, out, CONFIG, 1, progress=False).shards
    assert opened == expected
    assert [again[0], again[-1]] == [shards[0], shards[2]]
    assert set(out.iterdir()) == {*again, out / "clips.json"}
    direct = ClipDataset(videos, clip_length=2, height=16, width=24)
    assert ClipDataset(out, clip_length=2, height=16, width=24).num_frames == direct.num_frames


def test_a_killed_conversion_resumes(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The finished shards hold four videos each, which are not read again."""
    monkeypatch.setattr("genie_gym.data.convert._GROUP_VIDEOS", 4)
    (tmp_path / "videos").mkdir()
    path = encode(tmp_path / "videos" / "00.mkv", numbered(100), fps=10)
    for number in range(1, 40):
        os.link(path, path.with_stem(f"{number:02d}"))
    code = (
        "import sys; from pathlib import Path; from genie_gym.data import convert\n"
        "convert._GROUP_VIDEOS, config = 4, convert.ConvertConfig(size='16x24')\n"
        "convert.convert(sys.argv[1], Path(sys.argv[2]), config, 1, progress=False)"
    )
    out = tmp_path / "clips"
    command = [sys.executable, "-c", code, str(tmp_path / "videos"), str(out)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        deadline = time.monotonic() + 300
        while len(list(out.glob("*.h5"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = len(list(out.glob("*.h5")))
    assert 2 <= done < 10
    with pytest.raises(ValueError, match="conversion is not finished"):
        ClipDataset(out)
    convert(tmp_path / "videos", out, ConvertConfig(size="16x24"), 1, progress=False)
    assert len(opened) == 4 * (10 - done)
    assert ClipDataset(out).num_frames == 40 * 100
    assert not list(out.glob("*.tmp"))


def test_missing_changed_and_foreign_shards_are_named(videos: Path, tmp_path: Path) -> None:
    (shard,) = convert(videos, tmp_path / "clips", CONFIG, 1, progress=False).shards
    shard.rename(tmp_path / "away.h5")
    with pytest.raises(ValueError, match=rf"{shard.name}: is missing, but .*clips.json lists it"):
        ClipDataset(tmp_path / "clips")
    shard.write_bytes(b"cut")
    with pytest.raises(ValueError, match=rf"{shard.name}: has 3 bytes, but .*clips.json lists"):
        ClipDataset(tmp_path)
    (tmp_path / "away.h5").rename(shard)
    (tmp_path / "clips" / "other.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"other.h5: is not listed in .*clips.json, which is out of date"):
        ClipDataset(tmp_path / "clips")
    (tmp_path / "clips" / "clips.json").write_text("{}")
    with pytest.raises(ValueError, match=r"clips.json: is no index of clips"):
        ClipDataset(tmp_path / "clips")


def test_an_index_may_name_any_number_of_short_videos(videos: Path, tmp_path: Path) -> None:
    """More than other JSON files may hold."""
    convert(videos, tmp_path / "clips", CONFIG, 1, progress=False)
    index = video_shards.read_index(tmp_path / "clips")
    assert index is not None
    short = {f"{number:060d}.mp4": 1 for number in range(250_000)}
    index._replace(report={**index.report, "short": short}).write()
    assert (tmp_path / "clips" / "clips.json").stat().st_size > 1 << 24
    assert ClipDataset(tmp_path / "clips").num_frames > 0


def test_clips_of_other_settings_are_not_overwritten(videos: Path, tmp_path: Path) -> None:
    (shard,) = convert(videos, tmp_path / "clips", CONFIG, 1, progress=False).shards
    with pytest.raises(ValueError, match=r'clips holds clips of the settings .*"fps": null.*"fps": 5'):
        _convert(videos, tmp_path / "clips", fps=5)
    assert shard.is_file()


def test_clips_among_the_videos_are_not_taken_twice(videos: Path) -> None:
    _convert(videos, videos / "clips")
    with pytest.raises(ValueError, match=r"holds videos and, in .*clips, converted videos"):
        ClipDataset(videos)
    (shard,) = prepare_clips(videos, videos / "clips", CONFIG, print, workers=1).files
    shard.unlink()
    assert prepare_clips(videos, videos / "clips", CONFIG, print, workers=1).files == [shard]


def test_only_chosen_stretches_are_converted(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", numbered(20), fps=10)
    video = video_shards.VideoFile(str(path), "a.mkv", 0, 0, ((2, 5), (5, 7), (11, 14)))
    (outcome,) = video_shards.VideoShard((video,), CONFIG.settings()).write(str(tmp_path))
    shard = Shard(next(tmp_path.glob("*.h5")))
    assert shard.read(0, 8)[:, 0, 0, 0].tolist() == [2, 3, 4, 5, 6, 11, 12, 13]
    assert shard.episodes.tolist() == [0, 3, 5]
    assert (outcome.frames, outcome.longest) == (8, 3)


def test_train_data_are_converted_once(videos: Path, tmp_path: Path, opened: list[str]) -> None:
    said: list[str] = []
    first = prepare_clips([videos], tmp_path / "cache", CONFIG, said.append, workers=1)
    assert str(tmp_path / "cache") in said[0]
    assert len(opened) == 5
    assert prepare_clips([videos], tmp_path / "cache", CONFIG, said.append, workers=1) == first
    assert prepare_clips([tmp_path / "cache"], tmp_path / "none", CONFIG, said.append) == first
    both = prepare_clips([*first.files, videos / "c.mp4"], tmp_path / "one", CONFIG, said.append, workers=1)
    assert both.files[:1] == first.files
    assert len(opened) == 6
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("size", ["64", "64x", "0x4", "64 x 64", "1x1x1"])
def test_wrong_sizes_are_refused(size: str) -> None:
    with pytest.raises(ValueError, match=r"ConvertConfig.size must be HEIGHTxWIDTH"):
        ConvertConfig(size=size)


def test_the_report_is_kept_with_the_clips(videos: Path, tmp_path: Path) -> None:
    _convert(videos, tmp_path / "clips")
    report = json.loads((tmp_path / "clips" / "clips.json").read_text())["report"]
    assert (report["videos"], report["frames"], report["short"]) == (5, 67, {"c.mp4": 3})


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("c*")}


@pytest.mark.parametrize("damage", ["broken", "killed", "full", "all broken"])
def test_a_good_folder_stays_as_it_was_until_the_next_one_is_whole(
    videos: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    """A video is changed, and others are new, one of them broken; shards hold two videos each."""
    monkeypatch.setattr("genie_gym.data.convert._GROUP_VIDEOS", 2)
    out = tmp_path / "clips"
    _convert(videos, out)
    before = _state(out)
    clips = [ClipDataset(out, clip_length=4, height=16, width=24)[index] for index in (0, 20)]
    for name in ("f.mkv", "g.mkv"):
        encode(videos / name, numbered(12), fps=10)
    os.utime(videos / "d.mkv", ns=(0, 0))
    if "broken" in damage:
        (videos / "h.mkv").write_bytes((videos / "f.mkv").read_bytes()[:-400])
    else:
        write = video_shards.VideoShard.write

        def fail(shard: video_shards.VideoShard, folder: str) -> Any:
            if any(video.name == "g.mkv" for video in shard.videos):
                raise KeyboardInterrupt("ended") if damage == "killed" else OSError("no space")
            return write(shard, folder)

        monkeypatch.setattr(video_shards.VideoShard, "write", fail)
    with pytest.raises((ValueError, OSError, KeyboardInterrupt), match=r"1 of \d videos are broken|no space|ended"):
        _convert(videos / "h.mkv" if damage == "all broken" else videos, out)
    assert _state(out) == before
    after = ClipDataset(out, clip_length=4, height=16, width=24)
    assert all((after[index] == clip).all() for index, clip in zip((0, 20), clips, strict=True))
    if damage == "broken":
        opened.clear()
        _convert(videos, out, on_broken="skip")
        assert opened == []  # new shards have waited
        assert ClipDataset(out, clip_length=4, height=16, width=24).num_frames == 67 + 24
        assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_two_conversions_into_a_folder_are_refused(videos: Path, tmp_path: Path) -> None:
    """The second one names the process of the first, which goes on; what is up to date can be used meanwhile."""
    out = tmp_path / "clips"
    with lock_folder(out), pytest.raises(ValueError, match=rf"clips is in use by process {os.getpid()} on"):
        _convert(videos, out)
    assert not list(out.iterdir())
    lines = _convert(videos, out)
    with lock_folder(out):
        assert _convert(videos, out) == lines
        with pytest.raises(ValueError, match="is in use by"):
            _convert(videos, out, clip_length=9)
