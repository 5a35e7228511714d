"""Prompts: everything that an episode can start from, converted to frames of the world's size.

| prompt | frames |
|---|---|
| array (h, w) or (h, w, C), C in 1, 3, 4; uint8, or float in [0, 1] | one frame |
| array (P, h, w, C) of that kind | P frames, oldest first |
| PIL image of any mode | one frame, the current one of an animation |
| path of an image | one frame |
| path of a video or GIF | its first frames, at most ``MAX_PROMPT_FRAMES`` |
| list or tuple of the single frames above | those frames, oldest first |
| other text | one frame, drawn by the caller's ``text_to_image`` |

Frames of another size are cropped or padded, and scaled (``data.frames.resize``). Transparent pixels are blended with
black.
"""

import contextlib
import itertools
import os
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from genie_gym.data.fitting import Fit, describe_resize, require_fit
from genie_gym.data.frames import lay_on_black, resize
from genie_gym.data.video import VIDEO_SUFFIXES, iterate_video

MAX_PROMPT_FRAMES = 4
"""Largest number of prompt frames: enough to show velocity (four suffice for GenieRedux, arXiv 2409.06445)."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

_FORMATS_WITHOUT_32_BITS = ("PNG", "PPM")
"""Formats whose grey pictures have at most 16 bits, although some versions of Pillow open them in a mode of 32."""

_RUN_BY_PROGRAMS = ("EPS",)
"""Formats for which Pillow starts another program, Ghostscript."""
_MAX_PIXELS = 1 << 26
"""Largest number of pixels of an image file."""

Frame = np.ndarray | Image.Image | str | os.PathLike[str]
Prompt = Frame | Sequence[Frame]
TextToImage = Callable[[str], np.ndarray | Image.Image]


class FittedPrompt(NamedTuple):
    """A prompt converted to the world's size."""

    frames: np.ndarray
    """prompt frames, (P, height, width, 3) uint8, a copy"""
    fitting: str
    """description of how the first frame was brought to the world's size"""


def fit_prompt(
    prompt: Prompt,
    height: int,
    width: int,
    text_to_image: TextToImage | None = None,
    longest: int = MAX_PROMPT_FRAMES,
    field: str = "prompt",
    fit: Fit = "crop",
) -> FittedPrompt:
    """Convert a prompt to frames of the world's size.

    Args:
        prompt: One of the kinds in this module's table.
        height: Height of the world's frames.
        width: Width of the world's frames.
        text_to_image: Function that draws the image of a prompt that is a text; None refuses texts.
        longest: Largest number of frames; longer videos are cut, longer sequences refused.
        field: Name of the prompt in errors.
        fit: Whether frames of another aspect ratio are cropped or padded.

    Raises:
        ValueError: If the prompt is invalid; the message names ``field`` and the fault.
    """
    require_fit(fit)
    frames = _load_frames(field, prompt, text_to_image, longest)  # of any size, (h, w, 3) uint8
    resized = np.stack([resize(frame, height, width, fit) for frame in frames])
    h, w = frames[0].shape[:2]
    return FittedPrompt(resized, describe_resize(h, w, height, width, fit))


def _load_frames(field: str, prompt: Any, text_to_image: TextToImage | None, longest: int) -> list[np.ndarray]:
    if isinstance(prompt, list | tuple) or (isinstance(prompt, np.ndarray) and prompt.ndim == 4):
        if not 1 <= len(prompt) <= longest:
            raise ValueError(f"{field} must hold 1 to {longest} frames, got {len(prompt)}")
        return [_load_frame(f"{field}[{index}]", frame) for index, frame in enumerate(prompt)]
    if isinstance(prompt, str) and _is_text(prompt):
        return [_draw_text(field, prompt, text_to_image)]
    if isinstance(prompt, str | os.PathLike) and _suffix(prompt) in VIDEO_SUFFIXES:
        return _load_video(field, prompt, longest)
    return [_load_frame(field, prompt)]


def _load_frame(field: str, frame: Any) -> np.ndarray:
    """Load one frame, (h, w, 3) uint8."""
    if isinstance(frame, np.ndarray):
        return _array_to_pixels(field, frame)
    if isinstance(frame, Image.Image | str | os.PathLike):
        return _load_image(field, frame)
    raise ValueError(f"{field} must be an image, an array or a path, got {_describe(frame)}")


def _describe(frame: Any) -> str:
    """Describe what is no frame, with a hint at how a tensor becomes one."""
    if not isinstance(frame, Tensor):
        return reprlib.repr(frame)
    shape = tuple(frame.shape)
    return f"a tensor of shape {shape}: pass tensor.cpu().numpy(){_hint_at_colours(shape)}"


def _hint_at_colours(shape: tuple[int, ...]) -> str:
    """Return a hint for frames whose colours come before their rows, as PyTorch lays them out; else nothing."""
    if len(shape) not in (3, 4) or shape[-3] not in (1, 3, 4):
        return ""
    axes = (1, 2, 0) if len(shape) == 3 else (0, 2, 3, 1)
    return f", with colours last: array.transpose{axes}"


def _is_text(prompt: str) -> bool:
    return not os.path.exists(os.path.expanduser(prompt)) and _suffix(prompt) not in IMAGE_SUFFIXES + VIDEO_SUFFIXES


def _suffix(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(os.fspath(path))[1].lower()


def _draw_text(field: str, text: str, text_to_image: TextToImage | None) -> np.ndarray:
    if not text.strip():
        raise ValueError(f"{field} must be an image, a path or a text, got the empty text {text!r}")
    if text_to_image is None:
        wanted = "a file that exists, or a text together with a text_to_image function that draws it"
        raise ValueError(f"{field} must be {wanted}; got {text!r} and no text_to_image")
    image = text_to_image(text)
    if not isinstance(image, np.ndarray | Image.Image):
        raise ValueError(f"text_to_image must return a PIL image or an array, got {reprlib.repr(image)}")
    return _load_frame(f"text_to_image({text!r})", image)


def _existing_file(field: str, path: str | os.PathLike[str]) -> str:
    name = os.path.expanduser(os.fspath(path))
    if not os.path.isfile(name):
        what = "the directory" if os.path.isdir(name) else "the missing path"
        raise ValueError(f"{field} must be a file, got {what} {os.fspath(path)!r}")
    return name


def _load_video(field: str, path: str | os.PathLike[str], longest: int) -> list[np.ndarray]:
    name = _existing_file(field, path)
    try:
        return list(itertools.islice(iterate_video(name), longest))
    except ValueError as error:
        raise ValueError(f"{field} must be a video that can be read, got {error}") from error


def _load_image(field: str, image: Image.Image | str | os.PathLike[str]) -> np.ndarray:
    """Return the pixels, (h, w, 3) uint8, of an image or of the file at a path."""
    source = image if isinstance(image, Image.Image) else _existing_file(field, image)
    try:
        with _open_image(source) if isinstance(source, str) else contextlib.nullcontext(source) as opened:
            array = _image_to_array(opened)
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything, even once opened
        raise ValueError(f"{field} must be an image that can be read, got {source!r}: {error}") from error
    return _array_to_pixels(field, array)


def _open_image(path: str) -> Image.Image:
    """Open an image file in a format that Pillow reads without another program; ``ValueError`` for too many pixels."""
    Image.init()
    opened = Image.open(path, formats=[each for each in Image.OPEN if each not in _RUN_BY_PROGRAMS])
    if opened.width * opened.height > _MAX_PIXELS:
        raise ValueError(f"{opened.width} x {opened.height} pixels are more than {_MAX_PIXELS:,}")
    return opened


def _image_to_array(image: Image.Image) -> np.ndarray:
    """Return the upright image as (h, w, 3|4) uint8, or (h, w) float in [0, 1] if its mode holds more than 8 bits."""
    is_16_bit = image.mode.startswith("I;16") or image.format in _FORMATS_WITHOUT_32_BITS
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        return values / (65535 if is_16_bit or values.max() > 255 else 255)  # 32 bits do not state the range
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _array_to_pixels(field: str, array: np.ndarray) -> np.ndarray:
    """Convert (h, w) or (h, w, 1|3|4) uint8 or float to (h, w, 3) uint8."""
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        wanted = "(h, w), (h, w, 1), (h, w, 3) or (h, w, 4)"
        raise ValueError(f"{field} must have the shape {wanted}, got {array.shape}{_hint_at_colours(array.shape)}")
    pixels = _to_bytes(field, pixels)
    if pixels.shape[2] == 4:
        return lay_on_black(pixels)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _to_bytes(field: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"{field} must be uint8, or float in [0, 1], got {pixels.dtype}")
    if not np.isfinite(pixels).all():
        raise ValueError(f"{field} must be finite, got NaN or infinite values")
    if pixels.min() < 0 or pixels.max() > 1:
        raise ValueError(f"{field} must be in [0, 1] if it is float, got {pixels.min()}..{pixels.max()}")
    return np.round(pixels.astype(np.float64) * 255).astype(np.uint8)
