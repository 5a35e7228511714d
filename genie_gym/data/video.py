"""Video files read and written as frames. This is the only module that imports av (FFmpeg).

Written videos are lossless: mp4 with libx264rgb, gif with a palette for every frame (lossless up to 256 colours
a frame). The usual mp4 pixel format (yuv420p) blurs the colours of pixel art.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from genie_gym.data.frames import check_frames
from genie_gym.system import replace_file

VIDEO_SUFFIXES = (".mp4", ".webm", ".gif", ".mkv", ".mov", ".avi", ".m4v")
"""Suffixes of the files that are read as videos."""
_MAX_FPS = {".mp4": 1000, ".gif": 50}
"""Highest frame rate of each format that can be written."""
_CODECS = {"libx264rgb": ("mp4", "rgb24", {"crf": "0"}), "gif": ("gif", "pal8", {"gifflags": "-transdiff"})}
"""Codec -> container, pixel format and options. FFmpeg's transdiff corrupts frames that use all 256 colours."""


def iterate_video(path: str | Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, each (H, W, 3) uint8.

    Raises:
        ValueError: If the file is not a video, is damaged, or holds no frame.
    """
    path, count = Path(path), 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: holds no video")
            for frame in container.decode(video=0):
                count += 1
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a video ({error})") from error
    if count == 0:
        raise ValueError(f"{path}: holds no frame")


def read_video(path: str | Path) -> np.ndarray:
    """Read all frames of a video: (T, H, W, 3) uint8; ``ValueError`` if it is damaged, empty or no video."""
    return np.stack(list(iterate_video(path)))


def write_video(path: str | Path, frames: np.ndarray, fps: float = 15) -> None:
    """Write an mp4 or gif atomically: an existing file is replaced whole or stays as it was.

    Args:
        path: File to write; its suffix is .mp4 or .gif.
        frames: (T, H, W, 3) uint8.
        fps: Frames per second; a gif rounds the time of a frame to hundredths of a second.

    Raises:
        ValueError: If the suffix, the frames or fps are invalid, or the file cannot be written.
    """
    path = Path(path)
    check_frames("frames", frames, ndim=4)
    suffix = path.suffix.lower()
    if suffix not in _MAX_FPS:
        raise ValueError(f"path must end in {' or '.join(_MAX_FPS)}, got {str(path)!r}")
    if len(frames) == 0:
        raise ValueError("frames must be at least one, got none")
    if not 0 < fps <= _MAX_FPS[suffix]:
        raise ValueError(f"fps must be in (0, {_MAX_FPS[suffix]}] for {suffix}, got {fps}")
    picture, codec = (_palette_picture, "gif") if suffix == ".gif" else (_picture, "libx264rgb")
    try:
        with replace_file(path) as temporary:
            _encode(temporary, map(picture, frames), fps, codec)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: cannot be written ({error})") from error


def _encode(path: Path, pictures: Iterator[av.VideoFrame], fps: float, codec: str) -> None:
    container_format, pix_fmt, options = _CODECS[codec]
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format=container_format) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.pix_fmt = pix_fmt
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.height, picture.width
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _picture(frame: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")


def _palette_picture(frame: np.ndarray) -> av.VideoFrame:
    """Convert a frame to a palette of 256 colours: exactly if it has no more, otherwise to the nearest ones found."""
    # A colour as one number: numbers are sorted 20 times as fast as rows of three.
    packed = frame.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours, indices = np.unique(packed, return_inverse=True)
    if len(colours) > 256:
        reduced = Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE).convert("RGB")
        return _palette_picture(np.asarray(reduced))
    palette = np.zeros((256, 4), dtype=np.uint8)
    palette[:, 0] = 255  # opaque
    palette[: len(colours), 1:] = colours[:, None] >> np.array([16, 8, 0], dtype=np.uint32) & 255
    picture: Any = (indices.reshape(frame.shape[:2]).astype(np.uint8), palette)
    return av.VideoFrame.from_ndarray(picture, format="pal8")
