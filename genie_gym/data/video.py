"""Video files as frames: the one place that imports av (FFmpeg).

What is written is exact: mp4 through libx264rgb without loss, gif with a palette for every frame (exact up to
256 colours a frame). The usual mp4 (yuv420p) would spoil pixel art.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from genie_gym.data.frames import check_frames

VIDEO_SUFFIXES = (".mp4", ".webm", ".gif", ".mkv", ".mov", ".avi", ".m4v")
"""Suffixes of the files that are read as videos."""
SUFFIXES = {".mp4": 1000, ".gif": 50}
"""What can be written, and the most frames a second."""
CODECS = {"libx264rgb": ("mp4", "rgb24", {"crf": "0"}), "gif": ("gif", "pal8", {"gifflags": "-transdiff"})}
"""Container, pixels and options of each codec. FFmpeg's transdiff spoils frames that use all 256 colours."""


def iterate_video(path: str | Path) -> Iterator[np.ndarray]:
    """The frames of a video, one by one: (H, W, 3) uint8.

    Raises:
        ValueError: Naming the path, if it is no video, is broken, or holds no frame.
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
    """All frames of a video: (T, H, W, 3) uint8.

    Raises:
        ValueError: Naming the path, if it is no video, is broken, or holds no frame.
    """
    return np.stack(list(iterate_video(path)))


def count_frames(path: str | Path) -> int:
    """Number of frames of a video, found by decoding it: what files say of themselves may be wrong.

    Raises:
        ValueError: As ``read_video``.
    """
    return sum(1 for _ in iterate_video(path))


def write_video(path: str | Path, frames: np.ndarray, fps: float = 15) -> None:
    """Write an mp4 or gif, beside ``path`` and then renamed, so that it is whole or not there.

    Args:
        path: Ends in .mp4 or .gif.
        frames: (T, H, W, 3) uint8.
        fps: Frames a second; a gif keeps time in hundredths of a second.

    Raises:
        ValueError: If the suffix, the frames or fps are not of this kind, or the file cannot be written.
    """
    path = Path(path)
    check_frames("frames", frames, ndim=4)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path must end in {' or '.join(SUFFIXES)}, got {str(path)!r}")
    if len(frames) == 0:
        raise ValueError("frames must be at least one, got none")
    if not 0 < fps <= SUFFIXES[suffix]:
        raise ValueError(f"fps must be in (0, {SUFFIXES[suffix]}] for {suffix}, got {fps}")
    temporary = path.with_name(path.name + ".tmp")
    try:
        if suffix == ".gif":
            _encode(temporary, map(_palette_picture, frames), fps, "gif")
        else:
            _encode(temporary, map(_picture, frames), fps, "libx264rgb")
        temporary.replace(path)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: cannot be written ({error})") from error
    finally:
        if temporary.is_file():
            temporary.unlink()


def _encode(path: Path, pictures: Iterator[av.VideoFrame], fps: float, codec: str) -> None:
    container_format, pix_fmt, options = CODECS[codec]
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
    """The frame with a palette of its own: its colours where they are at most 256, else near ones."""
    colours, indices = np.unique(frame.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        reduced = Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE).convert("RGB")
        return _palette_picture(np.asarray(reduced))
    palette = np.zeros((256, 4), dtype=np.uint8)
    palette[:, 0] = 255  # opaque
    palette[: len(colours), 1:] = colours
    picture: Any = (indices.reshape(frame.shape[:2]).astype(np.uint8), palette)
    return av.VideoFrame.from_ndarray(picture, format="pal8")
