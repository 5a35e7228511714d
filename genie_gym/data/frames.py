"""Frames: all conversions between uint8 frames and float videos, resizing, contact sheets, and PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.fitting import Fit, centre_box, missing_pixels, require_fit
from genie_gym.system import replace_file

_MARGIN = 64
"""Width in pixels of the margin with the titles of a contact sheet."""
_HEAD = 12
"""Height in pixels of the margin with the heads of its columns."""
_GAP = 2
"""Pixels between two frames of a contact sheet."""
_MOST_PADDED = 1 << 24
"""Largest number of pixels that a frame is padded to; a longer or wider one is scaled down first."""


def check_frames(field: str, frames: np.ndarray | Tensor, ndim: int | None = None) -> None:
    """Check that ``frames`` is (..., H, W, 3) uint8 with at least one pixel.

    Raises:
        ValueError: If it is not; the message names ``field`` and what was found.
    """
    if not isinstance(frames, np.ndarray | Tensor):
        raise ValueError(f"{field} must be an array or tensor, got {type(frames).__name__}")
    if frames.dtype not in (np.uint8, torch.uint8):
        raise ValueError(f"{field} must be uint8, got {frames.dtype}")
    shape = tuple(frames.shape)
    if len(shape) < 3 or shape[-1] != 3 or 0 in shape[-3:] or (ndim is not None and len(shape) != ndim):
        expected = "(..., H, W, 3)" if ndim is None else f"(..., H, W, 3) with {ndim} axes"
        raise ValueError(f"{field} must have the shape {expected}, got {shape}")


def to_float(frames: np.ndarray | Tensor) -> Tensor:
    """Convert frames to videos: (..., H, W, 3) uint8 -> (..., 3, H, W) float32 in [0, 1], on the same device.

    Raises:
        ValueError: If the dtype or shape is invalid.
    """
    check_frames("frames", frames)
    if isinstance(frames, np.ndarray):
        frames = torch.from_numpy(np.require(frames, requirements=("C", "W")))
    return rearrange(frames, "... h w c -> ... c h w").contiguous().float().div_(255)


def to_uint8(videos: Tensor) -> np.ndarray:
    """Convert videos to frames: (..., 3, H, W) floating, clamped to [0, 1] and rounded -> (..., H, W, 3) uint8.

    Raises:
        ValueError: If the dtype or shape is invalid, or a value is not finite.
    """
    if not isinstance(videos, Tensor) or not videos.is_floating_point():
        raise ValueError(f"videos must be a floating tensor, got {getattr(videos, 'dtype', type(videos).__name__)}")
    if videos.ndim < 3 or videos.shape[-3] != 3:
        raise ValueError(f"videos must have the shape (..., 3, H, W), got {tuple(videos.shape)}")
    videos = videos.detach().float()
    if not videos.isfinite().all():
        raise ValueError("videos must be finite, got NaN or infinite values")
    return round_pixels(videos).cpu().numpy()


def round_pixels(videos: Tensor) -> Tensor:
    """Do what ``to_uint8`` does, on the videos' device and without its checks: NaN becomes any value."""
    pixels = videos.clamp(0, 1).mul(255).round().to(torch.uint8)
    return rearrange(pixels, "... c h w -> ... h w c").contiguous()


def lay_on_black(pixels: np.ndarray) -> np.ndarray:
    """Blend transparent pixels with black: (..., 4) uint8 -> (..., 3) uint8."""
    opacity = pixels[..., 3:].astype(np.float32) / 255
    return np.round(pixels[..., :3] * opacity).astype(np.uint8)


def resize(frame: np.ndarray, height: int, width: int, fit: Fit = "crop") -> np.ndarray:
    """Crop or pad a frame to a new aspect ratio, and scale it: (h, w, 3) -> (height, width, 3) uint8.

    Scaling by a whole factor keeps pixel art crisp (box filter down, nearest neighbour up); other factors use
    Lanczos down and bicubic up. A frame of the right size is returned unchanged. A frame that padding would
    make vast is scaled down first.

    Raises:
        ValueError: If the frame, the size or the fit is invalid.
    """
    check_frames("frame", frame, ndim=3)
    require_fit(fit)
    for field, value in (("height", height), ("width", width)):
        require(value > 0, field, value, "positive")
    if frame.shape[:2] == (height, width):
        return frame
    if fit == "pad":
        frame = _shrink_before_padding(frame, height, width)
        rows, columns = missing_pixels(frame.shape[0], frame.shape[1], height, width)
        sides = [(missing // 2, missing - missing // 2) for missing in (rows, columns)]
        frame = np.pad(frame, (*sides, (0, 0)), mode="edge")
    box = centre_box(frame.shape[0], frame.shape[1], height, width)
    shrink, kinds = (box[3] - box[1]) / height, Image.Resampling
    if shrink >= 1:
        kind = kinds.BOX if shrink.is_integer() else kinds.LANCZOS
    else:
        kind = kinds.NEAREST if (1 / shrink).is_integer() else kinds.BICUBIC
    return np.asarray(Image.fromarray(frame).resize((width, height), kind, box=box))


def _shrink_before_padding(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a frame down, (h, w, 3) uint8, so that it has at most ``_MOST_PADDED`` pixels once it is padded."""
    h, w = frame.shape[:2]
    rows, columns = missing_pixels(h, w, height, width)
    shrink = ((h + rows) * (w + columns) / _MOST_PADDED) ** 0.5
    if shrink <= 1:
        return frame
    size = max(1, int(w / shrink)), max(1, int(h / shrink))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))


def contact_sheet(videos: np.ndarray, titles: Sequence[str] = (), heads: Sequence[str] = ()) -> np.ndarray:
    """Arrange (R, T, H, W, 3) uint8 videos as rows with time to the right, with white gaps between frames and rows.

    Args:
        videos: The videos.
        titles: A title for each video, in a margin of 64 pixels at the left; none leave the margin out.
        heads: A head for each column, in a margin of 12 pixels above; none leave the margin out.

    Returns:
        (height, width, 3) uint8; a frame and its gap take H + 2 rows and W + 2 columns, without the gap at the end.

    Raises:
        ValueError: If the videos are invalid, or titles or heads are too many or too few.
    """
    check_frames("videos", videos, ndim=5)
    rows, columns = videos.shape[:2]
    for field, texts, number, owner in (("titles", titles, rows, "video"), ("heads", heads, columns, "frame")):
        if texts and len(texts) != number:
            raise ValueError(f"{field} must be {number}, one for each {owner}, got {len(texts)}")
    tiles = np.pad(videos, [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)], constant_values=255)
    sheet = rearrange(tiles, "r t h w c -> (r h) (t w) c")[:-_GAP, :-_GAP]
    left, top = _MARGIN if titles else 0, _HEAD if heads else 0
    page = Image.fromarray(np.pad(sheet, [(top, 0), (left, 0), (0, 0)], constant_values=255))
    pen = ImageDraw.Draw(page)
    for row, title in enumerate(titles):
        pen.text((2, top + row * tiles.shape[2] + videos.shape[2] / 2), title, fill="black", anchor="lm")
    for column, head in enumerate(heads):
        pen.text((left + column * tiles.shape[3] + videos.shape[3] / 2, top / 2), head, fill="black", anchor="mm")
    return np.asarray(page)


def write_image(path: Path, frame: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as a PNG atomically: an existing file is replaced whole or stays as it was.

    Raises:
        ValueError: If the file cannot be written.
    """
    check_frames("frame", frame, ndim=3)
    try:
        with replace_file(path) as temporary:
            Image.fromarray(frame).save(temporary, format="PNG")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error})") from error
