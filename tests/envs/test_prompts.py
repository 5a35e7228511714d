"""All kinds of prompts, and the errors for everything else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genie_gym.data.video import write_video
from genie_gym.envs.prompts import fit_prompt
from tests.data.video_files import turn_file

H, W = 8, 12
PIXELS = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
CLIP = np.random.default_rng(1).integers(0, 8, (6, H, W, 3), dtype=np.uint8) * 32


def load(prompt: Any, **kwargs: Any) -> np.ndarray:
    frames = fit_prompt(prompt, H, W, **kwargs).frames
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (H, W, 3)
    return frames


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[None, ..., None], 3, axis=-1)


def test_an_array_is_a_frame() -> None:
    frames = load(PIXELS)
    assert np.array_equal(frames, PIXELS[None])
    assert not np.shares_memory(frames, PIXELS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_in_zero_to_one(dtype: Any) -> None:
    assert np.abs(load((PIXELS / 255).astype(dtype)).astype(int) - PIXELS).max() <= (dtype is np.float16)


def test_grey_images_stay_grey() -> None:
    expected = grey(PIXELS[..., 0])
    assert np.array_equal(load(PIXELS[..., 0]), expected)
    assert np.array_equal(load(PIXELS[..., :1]), expected)
    assert np.array_equal(load(PIXELS[..., 0] / 255), expected)


def test_transparency_lies_on_black() -> None:
    alpha = np.full((H, W, 1), 255, dtype=np.uint8)
    alpha[0] = 0
    pixels = np.concatenate([PIXELS, alpha], axis=-1)
    expected = np.where(alpha > 0, PIXELS, 0)[None]
    assert np.array_equal(load(pixels), expected)
    assert np.array_equal(load(Image.fromarray(pixels)), expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (64, 64, 3), (3, 200, 3), (480, 640), (17, 5, 4), (2, 1000, 1)])
def test_frames_of_any_size_are_resized(shape: tuple[int, ...]) -> None:
    assert (load(np.full(shape, 255, dtype=np.uint8)) == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_8_bit_images_are_converted_as_by_pillow(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("P" if mode == "PA" else "RGB").convert(mode)
    assert np.array_equal(load(image), np.asarray(image.convert("RGB"))[None])


def test_images_of_more_bits_keep_their_grey_levels() -> None:
    values = PIXELS[..., 0]
    assert np.array_equal(load(Image.fromarray(values.astype(np.uint16) * 257)), grey(values))
    assert np.array_equal(load(Image.fromarray(values.astype(np.int32))), grey(values))
    assert np.array_equal(load(Image.fromarray((values / 255).astype(np.float32))), grey(values))


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("TIFF", "tif"), ("PPM", "pgm")])
def test_dark_pictures_of_16_bits_stay_dark(tmp_path: Path, kind: str, suffix: str) -> None:
    """Their white is 65,535, whatever their brightest pixel is."""
    values = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 2  # 0 to 190
    path = tmp_path / f"dark.{suffix}"
    Image.fromarray(values).save(path, format=kind)
    assert load(path).max() <= 1
    assert load(Image.fromarray(values)).max() <= 1
    assert np.array_equal(load(Image.fromarray(values.astype(np.int32))), grey(values.astype(np.uint8)))


def test_photos_are_turned_upright() -> None:
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = 3
    assert np.array_equal(load(image), PIXELS[None, ::-1, ::-1])


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_an_image(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "frame.PNG"
    Image.fromarray(PIXELS).save(path)
    assert np.array_equal(load(kind(path)), PIXELS[None])
    assert np.array_equal(load([kind(path), PIXELS]), np.stack([PIXELS, PIXELS]))


def test_an_existing_file_needs_no_suffix(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a castle", format="png")
    assert np.array_equal(load(str(tmp_path / "a castle")), PIXELS[None])


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(PIXELS).save(tmp_path / "frame.png")
    assert np.array_equal(load("~/frame.png"), PIXELS[None])


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_is_its_first_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path, CLIP)
    assert np.array_equal(load(path), CLIP[:4])
    assert np.array_equal(load(str(path), longest=2), CLIP[:2])


def test_prompts_are_read_as_training_reads_videos(tmp_path: Path) -> None:
    """A phone's video is turned upright."""
    write_video(tmp_path / "phone.mp4", CLIP)
    turn_file(tmp_path / "phone.mp4", 180)
    assert np.array_equal(load(tmp_path / "phone.mp4"), CLIP[:4, ::-1, ::-1])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_frames_are_taken_oldest_first(count: int) -> None:
    for frames in (CLIP[:count], list(CLIP[:count]), tuple(Image.fromarray(frame) for frame in CLIP[:count])):
        assert np.array_equal(load(frames), CLIP[:count])


def test_frames_of_one_prompt_may_differ_in_size() -> None:
    assert load([PIXELS, np.zeros((64, 64)), Image.new("L", (3, 3))]).shape == (3, H, W, 3)


@pytest.mark.parametrize("make", [lambda text: PIXELS, lambda text: Image.fromarray(PIXELS)])
def test_a_text_is_drawn(make: Any) -> None:
    texts: list[str] = []
    text = "a castle on a hill, v1.5 / pixel art" + " very" * 2000

    def paint(text: str) -> Any:
        texts.append(text)
        return make(text)

    assert np.array_equal(load(text, text_to_image=paint), PIXELS[None])
    assert texts == [text]


def test_a_text_needs_a_text_to_image_function() -> None:
    with pytest.raises(ValueError, match=r"prompt must be .*'a castle' and no text_to_image"):
        load("a castle")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (3, "prompt must be an image, an array or a path, got 3"),
        (b"x.png", "got b'x.png'"),
        (object(), "prompt must be an image"),
        ([], "prompt must hold 1 to 4 frames, got 0"),
        ([PIXELS] * 5, "prompt must hold 1 to 4 frames, got 5"),
        (CLIP, "prompt must hold 1 to 4 frames, got 6"),
        ([PIXELS, 3], r"prompt\[1\] must be an image, an array or a path, got 3"),
        ([PIXELS, None], r"prompt\[1\] .*None"),
        ([PIXELS, "a castle"], r"prompt\[1\] must be a file, got the missing path 'a castle'"),
        ([[PIXELS]], r"prompt\[0\] must be an image"),
        (PIXELS.astype(np.int64), "prompt must be uint8, or float .* got int64"),
        (PIXELS > 3, "got bool"),
        (PIXELS.astype(object), "got object"),
        (PIXELS.astype(np.complex64), "got complex64"),
        (PIXELS.astype(np.float32), r"prompt must be in \[0, 1\] if it is float, got 0.0..255.0"),
        (PIXELS / 255 - 1, r"prompt must be in \[0, 1\]"),
        (np.full((H, W, 3), np.nan), "prompt must be finite"),
        (np.full((H, W, 3), np.inf), "prompt must be finite"),
        (np.zeros((0, 5, 3), np.uint8), r"prompt must have the shape .* got \(0, 5, 3\)"),
        (np.zeros((5, 0), np.uint8), r"prompt must have the shape .* got \(5, 0\)"),
        (np.zeros((5, 5, 2), np.uint8), r"got \(5, 5, 2\)"),
        (np.zeros((3, 64, 64), np.uint8), r"got \(3, 64, 64\)"),
        (np.zeros(5, np.uint8), r"got \(5,\)"),
        (np.zeros((), np.uint8), r"got \(\)"),
        (np.zeros((1, 1, 1, 5, 5), np.uint8), r"got \(1, 1, 1, 5, 5\)"),
        (Image.new("RGB", (0, 0)), r"prompt must .*\(0, 0, 3\)"),
        (Image.new("I", (0, 4)), "prompt must "),
        (Image.fromarray(np.full((4, 4), 300.0, np.float32)), r"prompt must be in \[0, 1\]"),
        (Image.fromarray(np.full((4, 4), -1, np.int32)), r"prompt must be in \[0, 1\]"),
        ("", "empty text ''"),
        ("  ", "empty text '  '"),
        ("no/such/frame.png", "prompt must be a file, got the missing path 'no/such/frame.png'"),
        ("no/such/clip.mp4", "prompt must be a file, got the missing path 'no/such/clip.mp4'"),
        (Path("no/such"), "prompt must be a file, got the missing path 'no/such'"),
        ("\0", "no text_to_image"),
        (".", r"prompt must be a file, got the directory '\.'"),
        (Path("."), "got the directory"),
    ],
)
def test_invalid_prompts_are_refused(prompt: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(prompt)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.png", b"", "prompt must be an image that can be read"),
        ("text.txt", b"hello", "prompt must be an image that can be read"),
        ("noise.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "prompt must be an image that can be read"),
        ("empty.mp4", b"", "prompt must be a video that can be read"),
        ("text.gif", b"hello", "prompt must be a video that can be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{words}.*{name}"):
        load(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"prompt must be an image that can be read, got '.*cut"):
        load(path)


def test_truncated_opened_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:-80])
    with Image.open(path) as image, pytest.raises(ValueError, match="prompt must be an image that can be read"):
        load(image)


def test_text_to_image_must_return_an_image() -> None:
    with pytest.raises(ValueError, match="text_to_image must return a PIL image or an array, got None"):
        load("a castle", text_to_image=lambda text: None)
    with pytest.raises(ValueError, match=r"text_to_image\('a castle'\) must be uint8"):
        load("a castle", text_to_image=lambda text: PIXELS.astype(np.int32))


def test_errors_name_the_field() -> None:
    with pytest.raises(ValueError, match=r"prompts\[3\] must be an image"):
        load(3, field="prompts[3]")


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        (torch.zeros(64, 64, 3), r"a tensor of shape \(64, 64, 3\): pass tensor.cpu\(\).numpy\(\)$"),
        (torch.zeros(3, 64, 64), r"numpy\(\), with colours last: array.transpose\(1, 2, 0\)$"),
        (torch.zeros(4, 3, 64, 64), r"numpy\(\), with colours last: array.transpose\(0, 2, 3, 1\)$"),
        ([torch.zeros(3, 64, 64)], r"prompt\[0\] .* with colours last: array.transpose\(1, 2, 0\)$"),
        (np.zeros((3, 64, 64), np.uint8), r"got \(3, 64, 64\), with colours last: array.transpose\(1, 2, 0\)$"),
        (np.zeros((1, 64, 64), np.uint8), r", with colours last: array.transpose\(1, 2, 0\)$"),
        (np.zeros((2, 3, 64, 64), np.uint8), r"prompt\[0\] .* with colours last: array.transpose\(1, 2, 0\)$"),
        (np.zeros((5, 64, 64), np.uint8), r"got \(5, 64, 64\)$"),
    ],
)
def test_tensors_and_colours_before_rows_get_a_hint(prompt: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        fit_prompt(prompt, 64, 64)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (9000, 9000)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"prompt must be an image .*9000 x 9000 pixels are more than 67,108,864"):
        fit_prompt(path, 64, 64)


@pytest.mark.parametrize("name", ["a.png", "a.eps"])
def test_no_program_is_started_for_a_picture(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("started"))
    with pytest.raises(ValueError, match="prompt must be an image that can be read"):
        fit_prompt(path, 64, 64)
