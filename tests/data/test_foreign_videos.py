"""Videos from strangers: no other file and no address is read, and frames have a bounded size."""

import os
import socket
from pathlib import Path

import av
import numpy as np
import pytest

from genie_gym.data.clips import ClipDataset
from genie_gym.data.video import VIDEO_SUFFIXES, iterate_video, write_video

SECRET = "secret.mp4"


def playlists(address: str) -> dict[str, str]:
    """Texts by kind that FFmpeg takes for videos, which name another file or an address."""
    media = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
    return {
        "concat": f"ffconcat version 1.0\nfile {SECRET}\n",
        "hls": media.format(SECRET),
        "hls of an address": media.format(f"http://{address}/a.mp4"),
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 {address.partition(':')[0]}\nm=video 9 RTP/AVP 96\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{SECRET}</BaseURL></Period></MPD>',
    }


@pytest.mark.timeout(300)  # should an address be waited for
@pytest.mark.parametrize("kind", playlists(""))
@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_a_playlist_is_no_video(tmp_path: Path, kind: str, suffix: str) -> None:
    write_video(tmp_path / SECRET, np.zeros((3, 16, 16, 3), np.uint8))
    with socket.create_server(("127.0.0.1", 0)) as server:
        path = tmp_path / f"a{suffix}"
        path.write_text(playlists(f"127.0.0.1:{server.getsockname()[1]}")[kind])
        with pytest.raises(ValueError, match=rf"a{suffix}: "):
            list(iterate_video(path))
        server.settimeout(0.01)
        with pytest.raises(TimeoutError):
            server.accept()


def test_frames_of_vast_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, np.zeros((2, 64, 48, 3), np.uint8))
    monkeypatch.setattr("genie_gym.data.video._MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ValueError, match=r"a\.mp4: it is cut short, damaged or no video"):
        list(iterate_video(path))


def test_frames_stretched_to_a_vast_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 4
        for frame in (av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)), None):
            for packet in stream.encode(frame):
                container.mux(packet)
    assert next(iterate_video(path)).shape == (64, 256, 3)
    monkeypatch.setattr("genie_gym.data.video._MAX_PIXELS", 2 * 64 * 64)
    with pytest.raises(ValueError, match=r"a\.mkv: "):
        list(iterate_video(path))


@pytest.mark.timeout(300)  # a pipe would be waited for
def test_files_that_are_something_else_are_told_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"a\.mp4: must be a regular file"):
        list(iterate_video(path))
    path.unlink()
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ValueError, match=r"a\.mp4: is no video: it is a Git LFS pointer"):
        list(iterate_video(path))


def test_videos_that_do_not_fit_in_memory_are_not_decoded_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((50, 16, 16, 3), np.uint8))
    monkeypatch.setattr("genie_gym.data.sources._MOST_HELD", 7 * 16 * 16 * 3)
    decoded = []

    def count(*arguments: object) -> object:
        for frame in iterate_video(*arguments):  # type: ignore[arg-type]
            decoded.append(frame)
            yield frame

    monkeypatch.setattr("genie_gym.data.sources.iterate_video", count)
    with pytest.raises(ValueError, match=r"up to 4 GiB of frames, got more; use genie-gym convert: .*a\.mp4"):
        ClipDataset(tmp_path, clip_length=2, height=16, width=16)
    assert len(decoded) == 8
