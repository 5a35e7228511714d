"""Video files as phones, screen recorders and editors write them."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

QUARTER_TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""Clockwise degrees -> a, b, c and d of the display matrix that players turn the picture by."""


def encode(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "ffv1",
    pix_fmt: str = "bgr0",
    times: Sequence[float] | None = None,
    fps: float = 10,
    aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """Write pictures (H, W, 3|4) uint8, each shown from its time in seconds on; by default at ``fps``."""
    base = Fraction(1, round(fps) if path.suffix == ".avi" else 1000)  # AVI has a frame for each tick
    shown = [number / fps for number in range(len(pictures))] if times is None else times
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, base
        stream.height, stream.width = pictures[0].shape[:2]
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for picture, time in zip(pictures, shown, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbered(count: int, height: int = 16, width: int = 24) -> list[np.ndarray]:
    """Return plain grey pictures, each of the brightness of its number."""
    return [np.full((height, width, 3), number, np.uint8) for number in range(count)]


def turn_file(path: Path, degrees: int) -> None:
    """Write into an mp4's track header that players turn the picture clockwise, as a phone held upright does.

    ``ffmpeg -c copy -metadata:s:v rotate=90`` of version 8 ignores ``rotate``, and so does the muxer of this library.
    """
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in QUARTER_TURNS[degrees])
    matrix = data.index(b"tkhd") + 4 + 40  # 40 bytes of a version 0 header come before the matrix
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
