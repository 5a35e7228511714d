"""Tests that ratings survive the end of a session, and that the page shows each clip once and undoes."""

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from genie_gym.curation.config import RateConfig
from genie_gym.curation.deck import Deck, animate
from genie_gym.curation.ratings import Rating, Ratings
from genie_gym.data.manifest import Chosen
from tests.curation.conftest import CLIP, MakeVideos

CONFIG = RateConfig(clip_frames=CLIP, clips_per_video=2, fps=None, frames=4, height=32, width=32)


def open_deck(paths: list[Path], ratings: Path, config: RateConfig = CONFIG) -> Deck:
    return Deck([Chosen(path) for path in paths], Ratings(ratings, config.fps), config)


def rate_all(deck: Deck, most: int = 99) -> list[tuple[str, int]]:
    """Rate up to ``most`` clips and return the names of their videos and their first frames."""
    shown = []
    while deck.present is not None and len(shown) < most:
        shown.append((deck.present.path.name, deck.present.span[0]))
        deck.rate(3)
    return shown


def test_a_later_session_goes_on_with_the_clips_that_are_not_rated(make_videos: MakeVideos, tmp_path: Path) -> None:
    paths = make_videos(4, frames=50)
    whole = rate_all(open_deck(paths, tmp_path / "whole.json"))
    first = rate_all(open_deck(paths, tmp_path / "parts.json"), most=3)
    second = rate_all(open_deck(paths, tmp_path / "parts.json"))
    assert first + second == whole
    assert len(set(whole)) == 8
    assert {name for name, _ in whole} == {path.name for path in paths}
    assert open_deck(paths, tmp_path / "parts.json").present is None


def test_other_seeds_draw_other_clips(make_videos: MakeVideos, tmp_path: Path) -> None:
    paths, drawn = make_videos(2, frames=100), set()
    for seed in range(4):
        config = RateConfig(clip_frames=CLIP, clips_per_video=1, fps=None, frames=4, height=32, width=32, seed=seed)
        drawn.add(tuple(sorted(rate_all(open_deck(paths, tmp_path / f"{seed}.json", config)))))
    assert len(drawn) > 1


def test_undo_takes_back_ratings_and_shows_their_clips_again(make_videos: MakeVideos, tmp_path: Path) -> None:
    paths = make_videos(3)
    expected = rate_all(open_deck(paths, tmp_path / "whole.json"))
    deck = open_deck(paths, tmp_path / "ratings.json")
    deck.undo()
    assert rate_all(deck, most=3) == expected[:3]
    deck.undo()
    deck.undo()
    assert len(Ratings(tmp_path / "ratings.json").given) == 1, "the file is written at once"
    assert rate_all(deck) == expected[1:]
    deck.undo()
    assert rate_all(deck) == expected[-1:], "after the last clip, too"


def test_ratings_of_an_earlier_session_are_not_undone(make_videos: MakeVideos, tmp_path: Path) -> None:
    paths = make_videos(2)
    rate_all(open_deck(paths, tmp_path / "ratings.json"), most=1)
    deck = open_deck(paths, tmp_path / "ratings.json")
    deck.undo()
    assert not deck.can_undo
    assert len(Ratings(tmp_path / "ratings.json").given) == 1


def test_broken_videos_are_not_shown_and_named(
    make_videos: MakeVideos, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = make_videos(2)
    paths[0].write_bytes(b"no video")
    with caplog.at_level(logging.WARNING):
        shown = rate_all(open_deck(paths, tmp_path / "ratings.json"))
    assert {name for name, _ in shown} == {"01.mp4"}
    assert "00.mp4" in caplog.text


def test_videos_and_ratings_can_be_moved_together(make_videos: MakeVideos, tmp_path: Path) -> None:
    paths = make_videos(2)
    rate_all(open_deck(paths, tmp_path / "ratings.json"), most=2)
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.move(tmp_path, moved)
    ratings = Ratings(moved / "ratings.json")
    assert all(each.path.is_file() for each in ratings.given)
    assert ratings.is_rated(moved / "videos" / "x" / ".." / ratings.given[0].path.name, ratings.given[0].span)


def test_ratings_at_another_frame_rate_are_not_continued(make_videos: MakeVideos, tmp_path: Path) -> None:
    paths = make_videos(2)
    rate_all(open_deck(paths, tmp_path / "ratings.json"), most=1)
    config = RateConfig(clip_frames=CLIP, fps=5.0, frames=4)
    with pytest.raises(ValueError, match=r"ratings\.json: fps must be that of this session, 5\.0, got None"):
        open_deck(paths, tmp_path / "ratings.json", config)


def test_a_clip_is_rated_once(tmp_path: Path) -> None:
    ratings = Ratings(tmp_path / "ratings.json")
    ratings.add(Rating(tmp_path / "a.mp4", (0, 8), 5))
    with pytest.raises(ValueError, match="is rated already"):
        ratings.add(Rating(tmp_path / "a.mp4", (0, 8), 1))


@pytest.mark.parametrize("rating", [0, 6, 2.5, True, "5", None])
def test_other_ratings_than_1_to_5_are_refused(tmp_path: Path, rating: object) -> None:
    with pytest.raises(ValueError, match="rating must be a whole number from 1 to 5"):
        Ratings(tmp_path / "r.json").add(Rating(tmp_path / "a.mp4", (0, 8), rating))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        {"path": "a.mp4", "clip": [0, 8], "rating": 6},
        {"path": "a.mp4", "clip": [8, 0], "rating": 5},
        {"path": "a.mp4", "clip": [0], "rating": 5},
        {"path": 3, "clip": [0, 8], "rating": 5},
        {"path": "a.mp4", "rating": 5},
        "a.mp4",
    ],
)
def test_damaged_ratings_are_refused_by_number(tmp_path: Path, row: object) -> None:
    path = tmp_path / "ratings.json"
    good = {"path": "b.mp4", "clip": [0, 8], "rating": 5}
    path.write_text(json.dumps({"format": "genie-gym ratings", "ratings": [good, row]}))
    with pytest.raises(ValueError, match=r"ratings\.json: rating 2"):
        Ratings(path)


@pytest.mark.parametrize("fps", ['"10"', "true", "NaN", "Infinity", "1e999", "0", "-10", "1001", "[10]", "{}"])
def test_a_frame_rate_that_is_none_is_refused(tmp_path: Path, fps: str) -> None:
    path = tmp_path / "ratings.json"
    path.write_text(f'{{"format": "genie-gym ratings", "fps": {fps}, "ratings": []}}')
    with pytest.raises(ValueError, match=r"ratings\.json: fps must be a number in \(0, 1000\]"):
        Ratings(path)


def test_a_clip_of_a_file_has_one_rating(tmp_path: Path) -> None:
    """Equal ratings of a clip may be repeated, under any name of its video; of two that differ, none is preferred."""
    path, row = tmp_path / "ratings.json", {"path": "a.mp4", "clip": [0, 8], "rating": 5}
    rows = [row, {**row, "path": f"../{tmp_path.name}/a.mp4"}]
    path.write_text(json.dumps({"format": "genie-gym ratings", "ratings": rows}))
    assert [each.rating for each in Ratings(path).given] == [5]
    path.write_text(json.dumps({"format": "genie-gym ratings", "ratings": [*rows, {**row, "rating": 1}]}))
    with pytest.raises(ValueError, match=r"clip \(0, 8\) of .*a\.mp4 is rated 5 and 1: remove one of them"):
        Ratings(path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"format": "genie-gym ratings"}', '{"ratings": []}'])
def test_other_files_are_no_ratings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ratings.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"ratings .*ratings\.json"):
        Ratings(path)


def test_a_clip_is_an_animation_that_loops(make_videos: MakeVideos) -> None:
    frames = np.random.default_rng(0).integers(256, size=(4, 8, 12, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(animate(frames, seconds=2.0)))
    assert (image.n_frames, image.info["loop"], image.info["duration"]) == (4, 0, 500)
    shown = [np.asarray(each.convert("RGB")) for each in ImageSequence.Iterator(image)]
    assert np.array_equal(np.stack(shown), frames)
