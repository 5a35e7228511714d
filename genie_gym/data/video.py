"""Video files read and written as frames. This is the only module that imports av (FFmpeg).

Written videos are lossless: mp4 with libx264rgb, gif with a palette for every frame (lossless up to 256 colours
a frame). The usual mp4 pixel format (yuv420p) blurs the colours of pixel art.
"""

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from genie_gym.checks import require
from genie_gym.data.config import MAX_FPS, require_rate
from genie_gym.data.frames import check_frames, lay_on_black, resize
from genie_gym.foreign import explain_head
from genie_gym.system import replace_file

VIDEO_SUFFIXES = (".mp4", ".webm", ".gif", ".mkv", ".mov", ".avi", ".m4v")
"""Suffixes of the files that are read as videos."""
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi",
    "protocol_whitelist": "file",
}
"""What FFmpeg may read: the formats of ``VIDEO_SUFFIXES``. Its playlists would read other files and addresses."""
_MAX_PIXELS = 1 << 25
"""Largest number of pixels of a frame, stretched to square pixels; enough for 4320 x 7680."""
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's decoders without alpha -> those with it."""
_MAX_ASPECT = 16
"""Largest ratio of a pixel's sides; a damaged header could ask for frames of any size."""
_ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""Options of a conversion to RGB; PyAV 17 began to use all cores, which are busy with other videos."""
_USUAL_FPS = 25
"""Frame rate of files that state none; FFmpeg's own default."""
_SLACK_SECONDS, _SLACK_SHARE = 0.25, 0.1
"""Seconds and share of a video that may be missing at its end: audio and video rarely end at the same moment."""
_LONGEST_HOLD = 3600.0
"""Longest time in seconds for which a frame is shown: longer than any slide, shorter than by a damaged clock."""
_MIN_FPS = 0.001
"""Lowest frame rate of a video that is written."""
_MAX_GIF_FPS = 50
"""Highest rate at which a player shows a gif: the shortest time of a frame is 20 ms."""
_CODECS = {"libx264rgb": ("mp4", "rgb24", {"crf": "0"}), "gif": ("gif", "pal8", {"gifflags": "-transdiff"})}
"""Codec -> container, pixel format and options. FFmpeg's transdiff corrupts frames that use all 256 colours."""


def iterate_video(path: str | Path, fps: float | None = None) -> Iterator[np.ndarray]:
    """Yield the frames of a video as a player shows them, each (H, W, 3) uint8 of the first frame's size.

    Turned and stretched as the file says (rotation, pixel aspect ratio), with transparent parts on black. The file
    counts as broken if its data are damaged, end before the time that it states, or show a frame for over an hour.

    Args:
        path: Video file.
        fps: Frames per second to yield: what is seen at each multiple of 1 / fps, so that frames are repeated or left
            out. None yields each frame of the file once, whatever its time.

    Raises:
        ValueError: If fps is invalid, or the file is not a video, is broken, or holds no frame.
    """
    path, first = Path(path), None
    require_rate("fps", fps)
    if what := explain_head(path):
        raise ValueError(f"{path}: is no video: it is {what}")
    try:
        if path.stat().st_size == 0:
            raise ValueError(f"{path}: is an empty file")
        # A name with a colon, such as lvl:1.mp4, would be taken for a network address without "file:".
        with av.open(f"file:{path}", options=_OPTIONS) as container:
            decoder = _Decoder(path, container)
            for picture in decoder.frames() if fps is None else _sample(decoder, fps):
                pixels = _to_pixels(picture.frame, decoder.aspect)
                first = pixels if first is None else first
                yield resize(pixels, first.shape[0], first.shape[1])
    except (av.FFmpegError, OSError) as error:
        why = "it is cut short, damaged or no video" if isinstance(error, av.FFmpegError) else "the file cannot be read"
        raise ValueError(f"{path}: {why} ({error.strerror})") from error
    if first is None:
        raise ValueError(f"{path}: is cut short or damaged: it holds no frame")


class _Timed(NamedTuple):
    """A decoded frame."""

    frame: av.VideoFrame
    time: float
    """Seconds after the first frame at which it is shown."""


class _Decoder:
    """The frames of a container's main video, each with its time; what is damaged or cut short raises an error."""

    def __init__(self, path: Path, container: Any) -> None:
        self._path, self._container = path, container
        self._stream = container.streams.best("video")
        if self._stream is None:
            what = "holds no video" if container.streams else "is cut short or damaged: it holds no video and no sound"
            raise ValueError(f"{path}: {what}")
        if self._stream.codec_context is None:
            raise ValueError(f"{path}: holds a video of an unknown codec, or is damaged")
        if container.format.name == "gif":
            _check_gif(path)
        self.aspect = float(self._stream.sample_aspect_ratio or 1)
        """Width of a pixel over its height."""
        if not 1 / _MAX_ASPECT <= self.aspect <= _MAX_ASPECT:
            raise ValueError(f"{path}: the width of a pixel must be 1/16 to 16 of its height, got {self.aspect:g}")
        self.frame_time = 1 / float(self._stream.guessed_rate or self._stream.average_rate or _USUAL_FPS)
        """Seconds for which a frame is shown if the file does not tell."""
        self.end = 0.0
        """Seconds after the first frame at which the video ends, as far as it is decoded."""
        self._last_end = 0.0
        """Time at which the last packet of the video ends."""

    def frames(self) -> Iterator[_Timed]:
        """Yield all frames in the order in which they are shown."""
        start: float | None = None
        for frame in self._decode():
            if frame.is_corrupt:
                raise ValueError(f"{self._path}: is damaged at {self.end:.1f} seconds")
            moment = frame.time if frame.time is not None else (start or 0.0) + self.end
            start = moment if start is None else start
            time = max(moment - start, self.end - self.frame_time, 0.0)  # never before the previous frame
            self.end = time + self.frame_time
            yield _Timed(frame, time)
        self.end = max(self.end, self._last_end - (start or 0.0))  # files state how long the last frame is shown

    def require_hold(self, start: float, end: float) -> None:
        """Raise ``ValueError`` if a frame is shown from ``start`` to ``end`` in seconds, and this is over an hour."""
        if end - start > _LONGEST_HOLD:
            raise ValueError(
                f"{self._path}: its clock is damaged: it shows the frame at {start:.1f} seconds for {end - start:.0f} "
                f"seconds, more than {_LONGEST_HOLD:.0f}"
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode the video, and check that the packets of all streams last as long as the container states."""
        decoder = self._stream.codec_context
        decoder.thread_count = 1  # conversion runs a process on each core
        if self._stream.metadata.get("alpha_mode") == "1" and decoder.name in _ALPHA_DECODERS:
            decoder = av.CodecContext.create(_ALPHA_DECODERS[decoder.name], "r")  # FFmpeg's own drops the alpha
        decoder.options = {"max_pixels": str(int(_MAX_PIXELS / max(self.aspect, 1 / self.aspect)))}
        reached = 0.0
        for packet in self._container.demux():
            if packet.is_corrupt:
                raise ValueError(f"{self._path}: is damaged after {self.end:.1f} seconds")
            end = 0.0 if packet.pts is None else float((packet.pts + (packet.duration or 0)) * packet.time_base)
            reached = max(reached, end)
            if packet.stream.index == self._stream.index:
                self._last_end = max(self._last_end, end)
                yield from decoder.decode(packet)  # the last one is empty: its frames are late, and need its clock
        stated, start = (
            (value or 0) / av.time_base for value in (self._container.duration, self._container.start_time)
        )
        if self._container.format.name == "avi":  # FFmpeg reduces an AVI's time to what the file's size suggests
            stated = max(stated, self._stream.frames * self.frame_time)
        if reached > 0:
            reached -= min(start, 0.0)
            if reached < stated - max(min(_SLACK_SECONDS, _SLACK_SHARE * stated), 2 * self.frame_time):
                raise ValueError(f"{self._path}: is cut short, it holds {reached:.1f} of {stated:.1f} seconds")


def _sample(decoder: _Decoder, fps: float) -> Iterator[_Timed]:
    """Yield what is shown at each multiple of 1 / fps, until the video ends."""
    slack = min(1 / fps, decoder.frame_time) / 4  # times are rounded: to milliseconds in mkv
    shown, count = None, 0
    for frame in decoder.frames():
        if shown is not None:
            decoder.require_hold(shown.time, frame.time)
            while count / fps + slack < frame.time:
                yield shown
                count += 1
        shown = frame
    if shown is not None:
        decoder.require_hold(shown.time, decoder.end)
    while shown is not None and (count == 0 or count / fps + slack < decoder.end):
        yield shown
        count += 1


def _to_pixels(frame: av.VideoFrame, aspect: float) -> np.ndarray:
    """Convert a decoded frame to (H, W, 3) uint8: on black, stretched to square pixels, and turned."""
    if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
        pixels = lay_on_black(frame.to_ndarray(format="rgba", **_ONE_THREAD))
    else:
        pixels = frame.to_ndarray(format="rgb24", **_ONE_THREAD)
    if aspect != 1:
        height, width = pixels.shape[:2]
        size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else _turn(pixels, np.frombuffer(matrix, np.int32))


def _turn(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turn and mirror a frame by a display matrix a, b, u, c, d, v, ..: (x, y) is shown at (a x + c y, b x + d y)."""
    a, b, c, d = matrix[[0, 1, 3, 4]].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _check_gif(path: Path) -> None:
    """Raise ``ValueError`` unless a GIF is whole: FFmpeg takes the end of the file for the end of the animation."""
    with path.open("rb") as file:

        def skip_table(flags: int) -> None:
            file.seek(3 << (flags & 7) + 1 if flags & 0x80 else 0, os.SEEK_CUR)

        skip_table(file.read(13)[10])  # the header and the screen's descriptor
        while (kind := file.read(1)) != b";":
            if kind == b",":
                skip_table((file.read(9) or b"\0")[-1])
            if kind not in (b",", b"!") or not file.read(1):
                raise ValueError(f"{path}: is cut short or damaged after {file.tell()} bytes")
            while size := file.read(1):  # blocks of up to 255 bytes, ended by an empty one
                if size == b"\0":
                    break
                file.seek(size[0], os.SEEK_CUR)


def read_video(path: str | Path) -> np.ndarray:
    """Read all frames of a video: (T, H, W, 3) uint8; ``ValueError`` if it is broken, empty or no video."""
    return np.stack(list(iterate_video(path)))


def write_video(path: str | Path, frames: np.ndarray, fps: float = 15) -> None:
    """Write an mp4 or gif atomically: an existing file is replaced whole or stays as it was.

    Args:
        path: File to write; its suffix is .mp4 or .gif.
        frames: (T, H, W, 3) uint8.
        fps: Frames per second. A gif rounds the time of a frame to hundredths of a second; above 50 it holds every
            second frame, above 100 every third, and so on, and plays as fast.

    Raises:
        ValueError: If the suffix, the frames or fps are invalid, or the file cannot be written.
    """
    path = Path(path)
    check_frames("frames", frames, ndim=4)
    suffix = path.suffix.lower()
    require(suffix in (".mp4", ".gif"), "path", str(path), "a name that ends in .mp4 or .gif")
    if len(frames) == 0:
        raise ValueError("frames must be at least one, got none")
    require(_MIN_FPS <= fps <= MAX_FPS, "fps", fps, f"in [{_MIN_FPS}, {MAX_FPS}]")
    step = math.ceil(fps / _MAX_GIF_FPS) if suffix == ".gif" else 1
    picture, codec = (_palette_picture, "gif") if suffix == ".gif" else (_picture, "libx264rgb")
    try:
        with replace_file(path) as temporary:
            _encode(temporary, map(picture, frames[::step]), fps / step, codec)
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
