"""Pictures uploaded by visitors: few formats and limited sizes, since anybody may send them."""

import io

import numpy as np
from PIL import Image

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that Pillow is allowed to try."""
_MAX_PIXELS = 25_000_000
_KEPT_SIDE = 2048
"""Longer side in pixels that a picture is scaled down to before anything else is done with it."""


def open_picture(
    packed: bytes, field: str, formats: tuple[str, ...] = PICTURE_FORMATS, size: tuple[int, int] | None = None
) -> Image.Image:
    """Decode the bytes of a picture file; of an animation, its first frame. A large one is scaled down at once.

    Args:
        packed: Content of the file.
        field: Name of the picture in errors.
        formats: Formats to try.
        size: Width and height that the picture must have; it is read from the header, before pixels are decoded.

    Raises:
        ValueError: If it is no picture of these formats, damaged, of another size, or has too many pixels.
    """
    image: Image.Image
    try:
        image = Image.open(io.BytesIO(packed), formats=formats)
        if size is not None and image.size != size:
            raise ValueError(f"{image.width} x {image.height} pixels are not {size[0]} x {size[1]}")
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {_MAX_PIXELS:,}")
        if max(image.size) <= _KEPT_SIDE:
            image.load()
        else:
            if image.mode in ("1", "P", "PA"):  # numbers of colours have no mean
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            image.thumbnail((_KEPT_SIDE, _KEPT_SIDE))
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise ValueError(f"{field} must be a picture ({', '.join(formats)}): {error}") from error
    return image


def pack_picture(frame: np.ndarray) -> bytes:
    """Encode an (H, W, 3) uint8 frame as the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="PNG")
    return file.getvalue()
