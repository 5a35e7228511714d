"""Pictures uploaded by visitors: few formats and limited sizes, since anybody may send them."""

import io

import numpy as np
from PIL import Image

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that Pillow is allowed to try."""
_MAX_PIXELS = 25_000_000


def open_picture(packed: bytes, field: str, formats: tuple[str, ...] = PICTURE_FORMATS) -> Image.Image:
    """Decode the bytes of a picture file; of an animation, its first frame.

    Raises:
        ValueError: If it is no picture of these formats, damaged, or has too many pixels; the message names ``field``.
    """
    try:
        image = Image.open(io.BytesIO(packed), formats=formats)
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {_MAX_PIXELS:,}")
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{field} must be a picture ({', '.join(formats)}): {error}") from error
    return image


def pack_picture(frame: np.ndarray) -> bytes:
    """Encode an (H, W, 3) uint8 frame as the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="PNG")
    return file.getvalue()
