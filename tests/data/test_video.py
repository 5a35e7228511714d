"""Tests that videos are read back as they were written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_gym.data.video import iterate_video, read_video, write_video


def _frames(count: int = 9, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (63, 65), (90, 160), (1, 1)])
def test_mp4_is_exact(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = _frames(5, *size)
    write_video(tmp_path / "a.mp4", frames, fps=12.5)
    np.testing.assert_array_equal(read_video(tmp_path / "a.mp4"), frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_gif_is_exact_up_to_256_colours(tmp_path: Path) -> None:
    frames = _frames(9) // 52 * 52
    frames[3] = frames[4] = frames[2]
    frames[5] = 0
    frames[6] = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1).repeat(16, 0).reshape(64, 64, 3)
    write_video(tmp_path / "a.GIF", frames, fps=15)
    np.testing.assert_array_equal(read_video(tmp_path / "a.GIF"), frames)
    with Image.open(tmp_path / "a.GIF") as picture:
        assert picture.n_frames == 9
        assert picture.info["loop"] == 0


@pytest.mark.parametrize(
    ("fps", "step"), [(0.5, 1), (10, 1), (30, 1), (50, 1), (50.1, 2), (60, 2), (100, 2), (101, 3), (144, 3), (1000, 20)]
)
def test_a_gif_of_any_rate_plays_as_fast_as_the_frames(tmp_path: Path, fps: float, step: int) -> None:
    """No frame is shown for less than 20 ms, and all of them for as long as all that were given, but for the last."""
    count = 1 + 60 * step
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, -1).repeat(4, 1).repeat(4, 2)
    write_video(tmp_path / "a.gif", frames, fps=fps)
    assert np.array_equal(read_video(tmp_path / "a.gif"), frames[::step])
    durations = []
    with Image.open(tmp_path / "a.gif") as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            durations.append(picture.info["duration"])
    assert min(durations) >= 20
    assert sum(durations[:-1]) == pytest.approx(1000 * (count - 1) / fps, abs=10)


def test_gif_of_many_colours_is_near(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    frame = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 90, np.uint8)], -1)
    write_video(tmp_path / "a.gif", np.stack([frame] * 3))
    back = read_video(tmp_path / "a.gif")
    assert back.shape == (3, 64, 64, 3)
    assert np.abs(back.astype(int) - frame).mean() < 10


def test_frames_are_iterated(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", _frames(7))
    assert [frame.shape for frame in iterate_video(tmp_path / "a.mp4")] == [(64, 64, 3)] * 7


def test_broken_files_are_named(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", _frames())
    whole = (tmp_path / "whole.mp4").read_bytes()
    broken = {"cut.mp4": whole[: len(whole) // 2], "text.mp4": b"not a video", "nothing.mp4": b""}
    broken["empty.gif"] = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"  # a header without a frame
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name)
    with pytest.raises(ValueError, match=r"absent.mp4"):
        read_video(tmp_path / "absent.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_wrong_frames_are_refused(tmp_path: Path, name: str) -> None:
    wrong = [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)]
    for frames in wrong:
        with pytest.raises(ValueError, match="frames must"):
            write_video(tmp_path / name, frames)
    for fps in (0, -1, float("nan"), float("inf"), 1e-4, 2000):
        with pytest.raises(ValueError, match="fps must"):
            write_video(tmp_path / name, _frames(), fps=fps)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must be a name that ends in .mp4 or .gif, got .*a.txt"):
        write_video(tmp_path / "a.txt", _frames())
    (tmp_path / "folder.gif").mkdir()
    for path in (tmp_path / "absent" / "a.mp4", tmp_path / "absent" / "a.gif", tmp_path / "folder.gif"):
        with pytest.raises(ValueError, match=f"{path.name}: cannot be written"):
            write_video(path, _frames())
    assert [path.name for path in tmp_path.iterdir()] == ["folder.gif"]
