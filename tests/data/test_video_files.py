"""Tests that files which people have are read as players show them, and that broken ones are refused alike."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from genie_gym.data.video import iterate_video, read_video, write_video
from tests.data.video_files import encode, numbered, turn_file

CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:16, :24], CORNERS[:16, 24:], CORNERS[16:, :24] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
"""Red and green above blue and black."""


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_phone_videos_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    write_video(tmp_path / "phone.mp4", np.stack([CORNERS] * 3))
    turn_file(tmp_path / "phone.mp4", degrees)
    np.testing.assert_array_equal(read_video(tmp_path / "phone.mp4")[0], np.rot90(CORNERS, -degrees // 90))


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(2), (32, 96)), (Fraction(1, 2), (64, 48))])
def test_pixels_that_are_not_square_are_stretched(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    path = encode(tmp_path / "a.mp4", [CORNERS] * 2, "libx264rgb", "rgb24", aspect=aspect, crf="0")
    frames = read_video(path)
    assert frames.shape == (2, *size, 3)
    np.testing.assert_array_equal(frames[0][[2, -3]][:, [2, -3]], CORNERS[[2, -3]][:, [2, -3]])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.mov", "png", "rgba", {}),
        ("a.mov", "prores_ks", "yuva444p10le", {"profile": "4"}),
        ("a.webm", "libvpx-vp9", "yuva420p", {"lossless": "1"}),
        ("a.mov", "qtrle", "argb", {}),
    ],
)
def test_transparent_parts_of_videos_lie_on_black(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    """A hidden colour, 200, lies under the left half."""
    pixels = np.full((32, 48, 4), 200, np.uint8)
    pixels[:, :24, 3], pixels[:, 24:, 3] = 0, 255
    frames = read_video(encode(tmp_path / name, [pixels] * 3, codec, pix_fmt, **options))
    assert frames[:, :, :20].max() <= 2
    assert np.abs(frames[:, :, 28:].astype(int) - 200).max() <= 3


def test_a_transparent_gif_is_read_like_the_picture(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(24 * 16, dtype=np.uint8).reshape(16, 24) % 5, "P")
    picture.putpalette([200, 10, 10] * 3 + [10, 200, 10] * 2)
    picture.save(tmp_path / "a.gif", transparency=1)
    expected = np.array(picture.convert("RGB"))
    expected[np.array(picture) == 1] = 0
    np.testing.assert_array_equal(read_video(tmp_path / "a.gif")[0], expected)


@pytest.mark.parametrize(
    ("times", "fps", "expected"),
    [
        ([0, 1 / 30, 2 / 30, 0.1, 0.3, 0.5], 10, [0, 3, 3, 4, 4, 5, 5]),  # 30, then 5 frames a second
        ([number / 60 for number in range(60)], 10, list(range(0, 60, 6))),
        ([number / 30 for number in range(30)], 15, list(range(0, 30, 2))),
        ([number * 1001 / 30000 for number in range(30)], 10, list(range(0, 30, 3))),
        ([0, 0.1, 0.2], 20, [0, 0, 1, 1, 2, 2]),
        ([0, 0.1, 0.2], None, [0, 1, 2]),
        ([5, 5.1, 5.2], 10, [0, 1, 2]),  # a clock that begins late
        ([0, 0.1, 0.2], 1, [0]),
    ],
)
def test_frames_are_those_seen_at_each_time(
    tmp_path: Path, times: list[float], fps: float | None, expected: list[int]
) -> None:
    rate = 1 / (times[-1] - times[-2])
    path = encode(tmp_path / "a.mkv", numbered(len(times)), times=times, fps=rate)
    assert [int(frame[0, 0, 0]) for frame in iterate_video(path, fps)] == expected


def test_the_last_frame_of_a_gif_stays_as_long_as_it_says(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame * 40) for frame in numbered(2)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 500])
    assert [int(frame[0, 0, 0]) // 40 for frame in iterate_video(tmp_path / "a.gif", 10)] == [0, 1, 1, 1, 1, 1]


def test_slides_are_shown_as_long_as_the_file_says(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", numbered(4), times=[0, 180, 360, 3900])
    numbers = [int(frame[0, 0, 0]) for frame in iterate_video(path, 0.1)]
    assert [numbers.count(number) for number in range(3)] == [18, 18, 354]


TEN_YEARS = 10 * 365 * 24 * 3600


@pytest.mark.parametrize("times", [[0, 0.1, 10_000], [0, 0.1, TEN_YEARS], [0, TEN_YEARS, TEN_YEARS + 1]])
def test_a_jump_of_the_clock_is_named_and_not_filled_with_frames(tmp_path: Path, times: list[float]) -> None:
    path = encode(tmp_path / "a.mkv", numbered(3), times=times)
    with pytest.raises(
        ValueError, match=rf"a.mkv: its clock is damaged: .* at {times[-2] % TEN_YEARS:.1f} seconds for"
    ):
        list(iterate_video(path, 10))
    assert len(read_video(path)) == 3


def test_a_last_frame_without_end_is_named(tmp_path: Path) -> None:
    """A Matroska block says how long its frame is shown."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.pix_fmt, stream.height, stream.width = "bgr0", 16, 24
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")), *stream.encode()]:
            packet.duration = round(TEN_YEARS / packet.time_base)
            container.mux(packet)
    with pytest.raises(ValueError, match=r"a.mkv: its clock is damaged"):
        list(iterate_video(path, 10))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 2000, "10", True])
def test_wrong_rates_are_refused(tmp_path: Path, fps: Any) -> None:
    path = encode(tmp_path / "a.mkv", numbered(3))
    with pytest.raises(ValueError, match="fps must be a number in"):
        next(iterate_video(path, fps))


def test_a_video_that_changes_size_is_scaled_to_its_first_frame(tmp_path: Path) -> None:
    """Motion JPEG packets of two sizes lie in one stream."""
    grey = [np.full((height, width, 3), 90, np.uint8) for height, width in ((32, 48), (64, 96))]
    parts = [encode(tmp_path / f"{number}.avi", [part] * 3, "mjpeg", "yuvj420p") for number, part in enumerate(grey)]
    path = tmp_path / "both.avi"
    with av.open(str(path), "w") as container:
        stream = None
        for number, part in enumerate(parts):
            with av.open(str(part)) as opened:
                stream = stream or container.add_stream_from_template(opened.streams.video[0])
                for packet in filter(lambda packet: packet.size, opened.demux(video=0)):
                    packet.stream, packet.pts, packet.dts = stream, packet.pts + 3 * number, packet.dts + 3 * number
                    container.mux(packet)
    frames = read_video(path)
    assert frames.shape == (6, 32, 48, 3)
    assert np.abs(frames.astype(int) - 90).max() <= 3


@pytest.mark.parametrize("name", ["lvl:1.mp4", "http:a.mp4", "50%d.mp4"])
def test_any_name_opens_by_a_relative_path(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", np.stack([CORNERS] * 2))
    (tmp_path / "a.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert read_video(name).shape == (2, *CORNERS.shape)


def _write_whole(path: Path) -> bytes:
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(40, 32, 48, 3), dtype=np.uint8) // 64 * 64
    if path.suffix in (".mp4", ".gif"):
        write_video(path, frames, fps=10)
    else:
        codec, pix_fmt = ("libvpx-vp9", "yuv420p") if path.suffix == ".webm" else ("mpeg4", "yuv420p")
        encode(path, list(frames), codec, pix_fmt)
    assert len(read_video(path)) == 40
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif", ".avi", ".mov", ".m4v"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_in_every_container(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    whole = _write_whole(path)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"a{suffix}: .*(cut short|damaged|empty)"):
        read_video(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_a_file_without_its_index_is_said_to_be_cut_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    """The index, the atom ``moov``, lies at the end."""
    path = tmp_path / f"a{suffix}"
    whole = _write_whole(path)
    end = whole.rindex(b"moov") - 4
    for kept in (1, 4, 8, 20, 32, 48, end // 2, end - 1, end, end + 4, end + 100):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=rf"a{suffix}: .*(cut short|damaged)"):
            read_video(path)


def test_a_file_of_sound_is_said_to_hold_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*audio.encode(frame), *audio.encode()]:
            container.mux(packet)
    with pytest.raises(ValueError, match=r"a.mp4: holds no video$"):
        read_video(path)


def test_one_frame_less_than_stated_is_no_damage(tmp_path: Path) -> None:
    """The sound of a video often lasts a little longer than its pictures."""
    path = encode(tmp_path / "a.mkv", numbered(40))
    with av.open(str(path)) as container:
        assert container.duration == 4_000_000
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack(">d", 4000.0))
    data[place : place + 8] = struct.pack(">d", 4200.0)
    path.write_bytes(data)
    assert len(read_video(path)) == 40


def test_a_cut_file_is_said_to_be_short(tmp_path: Path) -> None:
    whole = _write_whole(tmp_path / "a.mkv")
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a.mkv: is cut short, it holds \d\.\d of 4\.0 seconds"):
        read_video(tmp_path / "a.mkv")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_corrupt_data_in_the_middle_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = bytearray(_write_whole(path))
    for place in range(len(data) // 2, len(data) // 2 + 400):
        data[place] ^= 0x5A
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"a{suffix}: .*(damaged|cannot be read|cut short)"):
        read_video(path)


def test_sound_that_lasts_longer_than_the_pictures_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264rgb", rate=10), container.add_stream("aac", rate=16000)
        video.pix_fmt, video.height, video.width = "rgb24", 32, 48
        for packet in (*(video.encode(av.VideoFrame.from_ndarray(CORNERS)) for _ in range(20)), video.encode()):
            container.mux(packet)
        sound = np.zeros((1, 16000 * 4), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    with av.open(str(path)) as container:
        assert container.duration > 3_900_000
    assert len(read_video(path)) == 20
    assert sum(1 for _ in iterate_video(path, 10)) == 20


def test_frames_that_a_decoder_returns_late_have_their_times(tmp_path: Path) -> None:
    """The usual x264 holds frames back for those that refer to them, and returns the last ones at the end."""
    pictures = [np.full((32, 48, 3), 6 * number, np.uint8) for number in range(30)]
    path = encode(tmp_path / "a.mp4", pictures, "libx264", "yuv420p", fps=30, bf="3")
    frames = list(iterate_video(path, 10))
    assert np.abs(np.array([frame.mean() for frame in frames]) - np.arange(0, 180, 18)).max() < 5
    assert len(frames) == 10
