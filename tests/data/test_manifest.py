"""Tests that training sees the clips of a manifest and no others, and that an out-of-date manifest is refused."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import prepare_clips
from genie_gym.data.manifest import Chosen, Span, digest_file, read_manifest, write_manifest
from genie_gym.data.video import write_video

Write = Callable[..., Path]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of 60 frames of noise, whose first pixels count the frames."""
    frames = np.random.default_rng(0).integers(256, size=(60, 16, 16, 3), dtype=np.uint8)
    frames[:, 0, 0, 0] = np.arange(60)
    write_video(tmp_path / "a.mp4", frames)
    return tmp_path / "a.mp4"


def write(video: Path, *spans: Span) -> Path:
    path = video.parent / "chosen.jsonl"
    write_manifest(path, [Chosen(video, spans)], None, {})
    return path


def numbers(clip: np.ndarray) -> list[int]:
    return clip[:, 0, 0, 0].tolist()


def open_clips(path: Path, length: int = 5) -> ClipDataset:
    return ClipDataset(path, clip_length=length, height=16, width=16)


def test_training_sees_the_chosen_clips_alone(video: Path) -> None:
    dataset = open_clips(write(video, (3, 10), (20, 26)))
    starts = [3, 4, 5, 20, 21]
    assert [numbers(dataset[index]) for index in range(len(dataset))] == [[*range(s, s + 5)] for s in starts]
    frames = np.concatenate(list(dataset.read_all()))
    assert numbers(frames) == [*range(3, 10), *range(20, 26)]
    assert numbers(np.concatenate([part for part, _ in dataset.read_sources()])) == numbers(frames)
    assert dataset.holds_videos


def test_training_clips_cross_from_a_chosen_clip_to_the_next_that_touches_it(video: Path) -> None:
    dataset = open_clips(write(video, (0, 4), (4, 8)))
    assert [numbers(dataset[index])[0] for index in range(len(dataset))] == [0, 1, 2, 3]


def test_a_manifest_without_clips_means_whole_videos(video: Path) -> None:
    path = video.parent / "chosen.jsonl"
    write_manifest(path, [Chosen(video)], None, {})
    assert len(open_clips(path)) == len(open_clips(video)) == 56


def test_a_run_on_other_clips_is_another_run(video: Path) -> None:
    """Caches of encoded clips are kept by fingerprint."""
    prints = {open_clips(write(video, *spans)).fingerprint for spans in [((0, 10),), ((1, 11),), ((0, 5), (6, 11))]}
    assert len(prints | {open_clips(video).fingerprint}) == 4


@pytest.mark.parametrize("fps", [None, 5.0])
def test_train_converts_the_chosen_clips_alone(video: Path, tmp_path: Path, fps: float | None) -> None:
    """The video has 15 frames a second: at 5, every third is read."""
    path, step = video.parent / "chosen.jsonl", 1 if fps is None else 3
    write_manifest(path, [Chosen(video, ((3, 6), (6, 10), (14, 19)))], fps, {})
    shards = prepare_clips(path, tmp_path / "cache", ConvertConfig(size="16x16", fps=None), print).files
    dataset = ClipDataset(shards, clip_length=4, height=16, width=16)
    frames = [*range(3, 10), *range(14, 19)]
    assert numbers(np.concatenate(list(dataset.read_all()))) == [step * frame for frame in frames]
    assert [numbers(dataset[index])[0] // step for index in range(len(dataset))] == [3, 4, 5, 6, 14, 15]


def test_other_chosen_clips_are_converted_anew(video: Path, tmp_path: Path) -> None:
    for first in (3, 20):
        shards = prepare_clips(
            write(video, (first, first + 5)), tmp_path / "cache", ConvertConfig(size="16x16", fps=None), print
        ).files
        assert numbers(ClipDataset(shards, clip_length=5, height=16, width=16)[0])[0] == first


@pytest.mark.parametrize(
    ("fps", "frames"), [(15.0, [*range(9, 29)]), (7.5, [*range(10, 29, 2)]), (3.0, [10, 15, 20, 25]), (30.0, None)]
)
def test_at_another_frame_rate_the_same_time_is_converted(
    video: Path, tmp_path: Path, fps: float, frames: list[int] | None
) -> None:
    """The video has 15 frames a second; from 0.6 to 2 seconds are chosen, whose last frame at 5 is shown at 1.8."""
    path = video.parent / "chosen.jsonl"
    write_manifest(path, [Chosen(video, ((3, 10),))], 5.0, {})
    shards = prepare_clips(path, tmp_path / "cache", ConvertConfig(fps=fps, size="16x16"), print).files
    found = numbers(np.concatenate(list(ClipDataset(shards, clip_length=1, height=16, width=16).read_all())))
    last = 27
    wanted = sorted([*range(9, last + 1)] * 2)[:-1] if frames is None else [n for n in frames if n <= last]
    assert found == wanted


def test_clips_of_unknown_rate_are_not_counted_at_another(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clips of .*a\.mp4 are counted in frames .*leave fps out, got fps 10"):
        prepare_clips(write(video, (0, 5)), tmp_path / "cache", ConvertConfig(fps=10), print)


@pytest.mark.parametrize("fps", [1.0, 2.997, 7.0, 10.0, 24.0, 29.97, 60.0])
def test_a_clip_at_the_end_of_a_video_ends_there_at_any_rate(fps: float) -> None:
    """A video of 6 seconds has 60 frames at 10 a second."""
    ((start, stop),) = Chosen(Path("a.mp4"), ((30, 60),), fps=10.0).at_rate(fps).spans or ()
    assert start / fps >= 3.0 - 1e-9
    assert (start - 1) / fps < 3.0
    assert stop <= int(np.ceil(6 * fps))


def test_clips_beyond_the_end_are_named_when_converted(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: has 60 frames, and its clips end at 61"):
        prepare_clips(write(video, (50, 61)), tmp_path / "cache", ConvertConfig(fps=None), print)


def test_the_folder_can_be_moved_and_copied(video: Path, tmp_path: Path) -> None:
    path = write(video, (3, 10))
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere")
    video.unlink()
    assert len(open_clips(tmp_path.parent / "elsewhere" / path.name)) == 3


def append(video: Path) -> None:
    video.write_bytes(video.read_bytes() + b"more")


def replace_last_byte(video: Path) -> None:
    content = video.read_bytes()
    video.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "out of date: .*a.mp4 is missing"),
        (append, r"out of date: .*a.mp4 had \d+ bytes, now \d+"),
        (replace_last_byte, "out of date: the contents of .*a.mp4 have changed"),
    ],
)
def test_an_out_of_date_manifest_is_refused_in_one_line(
    video: Path,
    change: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    path = write(video, (3, 10))
    change(video)
    with pytest.raises(ValueError, match=message):
        open_clips(path)
    arguments = ["train", "--data", str(path), "--out", str(video.parent / "run"), "--preset", "tiny"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "a.mp4" in told


def test_touching_a_video_does_not_put_the_manifest_out_of_date(video: Path) -> None:
    path = write(video, (3, 10))
    os.utime(video, (1, 1))
    assert len(open_clips(path)) == 3


def test_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    path, content = tmp_path / "large.mp4", bytearray(1 << 20)
    path.write_bytes(content)
    before = digest_file(path)
    content[1 << 19] = 1
    path.write_bytes(content)
    assert digest_file(path) != before


def test_clips_beyond_the_end_of_a_video_are_refused(video: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: has 60 frames, and its clips end at 61"):
        open_clips(write(video, (3, 10), (50, 61)))


@pytest.mark.parametrize(
    "clips",
    [[[5, 5]], [[6, 5]], [[-1, 5]], [[0, 5], [4, 9]], [[4, 9], [0, 4]], [[0]], [[0.0, 5.0]], [[True, 5]], "all", 7],
)
def test_damaged_clips_are_refused(video: Path, clips: object) -> None:
    path = write(video, (3, 10))
    head, line = path.read_text().splitlines()
    path.write_text(f"{head}\n{json.dumps({**json.loads(line), 'clips': clips})}\n")
    with pytest.raises(ValueError, match=r"chosen\.jsonl, line 2: clips must be"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{}\n", "line 1 must be a genie-gym manifest"),
        ('{"format": "genie-gym manifest", "version": 2}\n', "version 1"),
        ('{"format": "genie-gym manifest", "version": 1, "fps": -1}\n', "fps must be a number in"),
        ('{"format": "genie-gym manifest", "version": 1}\n{"path": "a', "damaged"),
        ('{"format": "genie-gym manifest", "version": 1}\n', "chosen clips must be positive"),
        ('{"format": "genie-gym manifest", "version": 1}\n[]\n', "line 2 must be a video"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(path)


def test_videos_without_chosen_clips_are_left_out(video: Path) -> None:
    other = video.with_name("b.mp4")
    shutil.copy(video, other)
    path = video.parent / "chosen.jsonl"
    write_manifest(path, [Chosen(video, ()), Chosen(other, ((0, 9),), (0.75,))], None, {})
    assert [chosen.path.name for chosen in read_manifest(path)] == ["b.mp4"]
