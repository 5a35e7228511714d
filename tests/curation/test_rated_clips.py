"""Tests that clips are cut where they should be, while a video is read once."""

from pathlib import Path

import pytest

from genie_gym.curation.clips import iterate_clips, list_videos
from genie_gym.data.manifest import Chosen, Span
from tests.curation.conftest import MakeVideos

SIZE = (32, 32)


def cut(path: Path, clip_frames: int, shown: int, *spans: Span) -> list[tuple[Span, list[int]]]:
    video = Chosen(path, spans or None)
    clips = iterate_clips(video, clip_frames, shown, SIZE)
    return [(clip.span, clip.frames[:, 0, 0, 0].tolist()) for clip in clips]


def test_a_video_is_cut_into_clips_and_its_rest_is_dropped(make_videos: MakeVideos) -> None:
    (path,) = make_videos(1, frames=20)
    assert cut(path, 8, 8) == [((0, 8), [*range(8)]), ((8, 16), [*range(8, 16)])]
    assert cut(path, 8, 2) == [((0, 8), [2, 6]), ((8, 16), [10, 14])]
    assert cut(path, 20, 1) == [((0, 20), [10])]
    assert cut(path, 21, 1) == []


def test_clips_lie_within_the_chosen_stretches(make_videos: MakeVideos) -> None:
    (path,) = make_videos(1, frames=20)
    assert [span for span, _ in cut(path, 4, 2, (1, 10), (10, 13), (14, 18))] == [(1, 5), (5, 9), (14, 18)]


def test_a_stretch_beyond_the_end_is_an_error(make_videos: MakeVideos) -> None:
    (path,) = make_videos(1, frames=20)
    with pytest.raises(ValueError, match=r"00\.mp4: has 20 frames, and its clips end at 24"):
        cut(path, 4, 2, (0, 4), (20, 24))


def test_more_frames_than_a_clip_has_cannot_be_shown(make_videos: MakeVideos) -> None:
    (path,) = make_videos(1)
    with pytest.raises(ValueError, match=r"shown must be in \[1, 4\]"):
        cut(path, 4, 5)


def test_shards_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"videos must be files of videos, got .*a\.h5"):
        list_videos([tmp_path])
