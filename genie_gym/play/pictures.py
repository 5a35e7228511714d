"""Pictures from strangers: few formats, few bytes, few pixels."""

import io

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""That Pillow is allowed to try."""
MOST_PIXELS = 25_000_000
"""Unpacked, of one picture."""


def open_picture(packed: bytes, field: str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The picture in a file's bytes, unpacked; of an animation its first.

    Raises:
        ValueError: Naming ``field``, if it is no picture of these formats, broken, or unpacks to too many pixels.
    """
    try:
        image = Image.open(io.BytesIO(packed), formats=formats)
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS:,}")
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{field} must be a picture ({', '.join(formats)}): {error}") from error
    return image


def pack_picture(frame: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a PNG's bytes."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="PNG")
    return file.getvalue()
