"""Tests of the conversions between uint8 and float, of scaling, and of pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genie_gym.data.fitting import Fit, describe_resize
from genie_gym.data.frames import check_frames, contact_sheet, resize, to_float, to_uint8, write_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_converting_back_and_forth_is_exact(lead: tuple[int, ...]) -> None:
    frames = RNG.integers(256, size=(*lead, 6, 9, 3), dtype=np.uint8)
    videos = to_float(frames)
    assert videos.shape == (*lead, 3, 6, 9)
    assert videos.dtype == torch.float32
    assert videos.is_contiguous()
    assert videos.min() >= 0
    assert videos.max() <= 1
    np.testing.assert_array_equal(to_uint8(videos), frames)
    torch.testing.assert_close(to_float(torch.from_numpy(frames)), videos, rtol=0, atol=0)


def test_every_level_survives_and_read_only_frames_are_fine() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    frames.flags.writeable = False
    np.testing.assert_array_equal(to_uint8(to_float(frames[::-1])), frames[::-1])


def test_to_uint8_clamps_and_rounds() -> None:
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0]).expand(3, 1, 6)
    np.testing.assert_array_equal(to_uint8(values)[0, :, 0], [0, 0, 0, 1, 255, 255])
    assert to_uint8(values.to(torch.bfloat16).requires_grad_()).dtype == np.uint8


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), [0]]
)
def test_to_float_refuses_others(frames: object) -> None:
    with pytest.raises(ValueError, match="frames must"):
        to_float(frames)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "videos",
    [
        torch.full((3, 2, 2), float("nan")),
        torch.full((3, 2, 2), float("inf")),
        torch.zeros(3, 2, 2, dtype=torch.uint8),
        torch.zeros(2, 2, 3),
        torch.zeros(3, 2),
        np.zeros((3, 2, 2), np.float32),
    ],
)
def test_to_uint8_refuses_others(videos: object) -> None:
    with pytest.raises(ValueError, match="videos must"):
        to_uint8(videos)  # type: ignore[arg-type]


def test_check_frames_names_field_and_axes() -> None:
    with pytest.raises(ValueError, match=r"prompt must have the shape .* got \(2, 4, 4, 3\)"):
        check_frames("prompt", np.zeros((2, 4, 4, 3), np.uint8), ndim=3)


def test_resize_leaves_the_right_size_alone() -> None:
    frame = RNG.integers(256, size=(64, 64, 3), dtype=np.uint8)
    assert resize(frame, 64, 64) is frame


def test_resize_is_crisp_at_whole_factors() -> None:
    frame = RNG.integers(256, size=(8, 8, 3), dtype=np.uint8)
    large = resize(frame, 32, 32)
    np.testing.assert_array_equal(large, frame.repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(resize(large, 8, 8), frame)


def test_resize_crops_the_centre() -> None:
    frame = np.zeros((10, 30, 3), np.uint8)
    frame[:, 10:20] = 200
    assert (resize(frame, 5, 5) == 200).all()
    assert (resize(frame.transpose(1, 0, 2), 5, 5) == 200).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (64, 64), (90, 160), (100, 33)])
def test_resize_keeps_a_plain_colour(size: tuple[int, int]) -> None:
    resized = resize(np.full((48, 37, 3), (10, 120, 250), np.uint8), *size)
    assert resized.shape == (*size, 3)
    assert (resized == (10, 120, 250)).all()


def test_resize_refuses_others() -> None:
    with pytest.raises(ValueError, match="height must be positive, got 0"):
        resize(np.zeros((4, 4, 3), np.uint8), 0, 4)
    with pytest.raises(ValueError, match="frame must have the shape"):
        resize(np.zeros((2, 4, 4, 3), np.uint8), 4, 4)


def test_contact_sheet_has_a_row_for_each_video() -> None:
    videos = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1).repeat(4, 2).repeat(5, 3).repeat(3, 4)
    sheet = contact_sheet(videos)
    assert sheet.shape == (4 + 2 + 4, 5 + 2 + 5 + 2 + 5, 3)
    assert sheet[::6, ::7, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_white_gaps_part_the_frames_of_a_contact_sheet() -> None:
    sheet = contact_sheet(np.zeros((2, 3, 4, 5, 3), np.uint8))
    is_white, is_black = (sheet == 255).all(axis=2), (sheet == 0).all(axis=2)
    assert is_white.all(axis=1).nonzero()[0].tolist() == [4, 5]
    assert is_white.all(axis=0).nonzero()[0].tolist() == [5, 6, 12, 13]
    assert is_black.sum() == 2 * 3 * 4 * 5, "no pixel of a frame is lost"


def test_heads_stand_in_a_margin_above_their_columns() -> None:
    videos = np.zeros((2, 2, 32, 32, 3), np.uint8)
    plain = contact_sheet(videos, ["", ""])
    sheet = contact_sheet(videos, ["", ""], ["", "left 4"])
    assert np.array_equal(sheet[-plain.shape[0] :], plain)
    margin = sheet[: -plain.shape[0]]
    assert (margin[:, -32:] < 255).any(), "a head"
    assert (margin[:, : 64 + 32] == 255).all(), "none"
    with pytest.raises(ValueError, match="heads must be 2, one for each frame, got 1"):
        contact_sheet(videos, heads=["one"])


def test_an_image_is_written_atomically(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "picture.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.png")), picture)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=r"folder\.png"):
        write_image(tmp_path / "folder.png", picture)
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "folder.png"}


def test_titles_stand_in_a_margin_beside_their_rows() -> None:
    videos = np.zeros((2, 3, 32, 32, 3), np.uint8)
    sheet = contact_sheet(videos, ["real", ""])
    plain = contact_sheet(videos)
    assert np.array_equal(sheet[:, -plain.shape[1] :], plain)
    margin = sheet[:, : -plain.shape[1]]
    assert (margin[:32] < 255).any(), "a title"
    assert (margin[34:] == 255).all(), "none"
    with pytest.raises(ValueError, match="titles must be 2"):
        contact_sheet(videos, ["one"])


@pytest.mark.parametrize("shape", [(1, 200_000, 3), (200_000, 1, 3), (3, 100_000, 3), (40_000, 16, 3)])
def test_padding_of_a_long_frame_takes_little_memory(shape: tuple[int, int, int]) -> None:
    """Padded as it is, the first one would have forty thousand million pixels."""
    frame = np.full(shape, 90, np.uint8)
    assert np.array_equal(resize(frame, 64, 96, "pad"), np.full((64, 96, 3), 90, np.uint8))


def test_padding_keeps_the_whole_frame() -> None:
    frame = np.zeros((4, 8, 3), np.uint8)
    frame[:2], frame[2:] = 50, 200
    padded = resize(frame, 8, 8, "pad")
    assert (padded[:4] == 50).all()
    assert (padded[4:] == 200).all()
    assert (resize(frame.transpose(1, 0, 2), 8, 8, "pad") == padded.transpose(1, 0, 2)).all()
    assert resize(np.zeros((37, 48, 3), np.uint8), 64, 64, "pad").shape == (64, 64, 3)
    with pytest.raises(ValueError, match=r"fit must be one of \('crop', 'pad'\), got 'stretch'"):
        resize(frame, 8, 8, "stretch")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "fit", "told"),
    [
        ((64, 64), "crop", "64 x 64 pixels, as they are"),
        ((128, 128), "crop", "128 x 128 pixels, scaled to 64 x 64"),
        ((200, 300), "crop", "300 x 200 pixels, 100 columns cut off, scaled to 64 x 64"),
        ((300, 200), "crop", "200 x 300 pixels, 100 rows cut off, scaled to 64 x 64"),
        ((200, 300), "pad", "300 x 200 pixels, 100 rows added, scaled to 64 x 64"),
        ((300, 200), "pad", "200 x 300 pixels, 100 columns added, scaled to 64 x 64"),
    ],
)
def test_resizing_is_described_in_words(size: tuple[int, int], fit: Fit, told: str) -> None:
    assert describe_resize(*size, 64, 64, fit) == told
