"""Tests of the page on which clips are rated, without a browser."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from genie_gym.curation.config import RateConfig
from genie_gym.curation.deck import Deck
from genie_gym.curation.page import build_rating_app
from genie_gym.curation.ratings import Ratings
from genie_gym.data.manifest import Chosen
from tests.curation.conftest import CLIP, MakeVideos

HERE = "http://127.0.0.1"


@pytest.fixture
def page(make_videos: MakeVideos, tmp_path: Path) -> Iterator[TestClient]:
    """Return a client of a page with one clip of each of two videos."""
    config = RateConfig(clip_frames=CLIP, clips_per_video=1, fps=None, frames=4, height=32, width=32)
    deck = Deck([Chosen(path) for path in make_videos(2)], Ratings(tmp_path / "ratings.json"), config)
    with TestClient(build_rating_app(deck), base_url=HERE) as client:
        yield client


def test_ratings_from_the_page_reach_the_file(page: TestClient, tmp_path: Path) -> None:
    for rating, last in ((5, False), (1, True)):
        name = page.get("/state").json()["name"]
        state = page.post("/change", json={"rating": rating, "name": name}).json()
        assert (state["name"] is None) is last
    assert [each.rating for each in Ratings(tmp_path / "ratings.json").given] == [5, 1]
    assert state["rated"] == {"1": 1, "2": 0, "3": 0, "4": 0, "5": 1}
    assert page.get("/clip.png").status_code == 404
    undone = page.post("/change", json={"undo": True}).json()
    assert (undone["name"], undone["rated"]["1"]) == (name, 0)


def test_the_page_shows_an_animation_and_its_files(page: TestClient) -> None:
    image = Image.open(io.BytesIO(page.get("/clip.png").content))
    assert (image.n_frames, image.size) == (4, (32, 32))
    text = page.get("/").text
    for file in ("static/rate.css", "static/rate.js"):
        assert file in text
        assert page.get(f"/{file}").status_code == 200


def test_a_page_that_shows_another_clip_cannot_rate_the_present_one(page: TestClient, tmp_path: Path) -> None:
    """Two windows, or a key pressed twice."""
    name = page.get("/state").json()["name"]
    page.post("/change", json={"rating": 5, "name": name})
    answer = page.post("/change", json={"rating": 1, "name": name})
    assert (answer.status_code, "no longer shown" in answer.json()["error"]) == (400, True)
    assert len(Ratings(tmp_path / "ratings.json").given) == 1


@pytest.mark.parametrize("order", [{"rating": 9}, {"rating": 9, "name": None}, [], {"undo": True, "rating": 1}, 7])
def test_invalid_orders_change_nothing(page: TestClient, tmp_path: Path, order: object) -> None:
    before = page.get("/state").json()
    if isinstance(order, dict) and "name" in order:
        order = {**order, "name": before["name"]}
    assert page.post("/change", json=order).status_code == 400
    assert page.get("/state").json() == before
    assert not (tmp_path / "ratings.json").exists()


def test_other_sites_cannot_rate(page: TestClient) -> None:
    order = {"rating": 5, "name": page.get("/state").json()["name"]}
    assert page.post("/change", json=order, headers={"Origin": "http://elsewhere.example"}).status_code == 403
    assert page.get("/state", headers={"Host": "elsewhere.example"}).status_code == 400
    assert page.post("/change", json=order, headers={"Origin": HERE}).status_code == 200
