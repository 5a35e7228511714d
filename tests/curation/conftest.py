"""Videos of two kinds: bright ones, which are good, and dark ones; every frame is of noise and tells its number."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genie_gym.curation.classifier import fit_classifier
from genie_gym.curation.config import ClassifierConfig
from genie_gym.curation.ratings import Rating, Ratings
from genie_gym.data.video import write_video

CLIP = 8
"""Frames of a clip."""
CONFIG = ClassifierConfig(height=32, width=32, frames=2, channels=8, train_steps=30, batch_size=16, precision=0.9)
HALVES = replace(CONFIG, validation_share=0.25, test_share=0.25)
MakeVideos = Callable[..., list[Path]]


def write_videos(folder: Path, count: int, frames: int = 20) -> list[Path]:
    """Write ``count`` videos of ``frames`` frames, the even ones bright, the odd ones dark."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:02d}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(100, size=(frames, 32, 32, 3))
        pixels = noise + (150 if number % 2 == 0 else 0)
        pixels[:, 0, 0, 0] = np.arange(frames)
        write_video(path, pixels.astype(np.uint8))
    return paths


@pytest.fixture
def make_videos(tmp_path: Path) -> MakeVideos:
    """Return ``write_videos`` for a subfolder of the test's folder."""

    def make(count: int, frames: int = 20, folder: str = "videos") -> list[Path]:
        return write_videos(tmp_path / folder, count, frames)

    return make


@pytest.fixture(scope="session")
def rated_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ratings of two clips of each of 20 videos: bright ones are rated 5, dark ones 1."""
    folder = tmp_path_factory.mktemp("rated")
    ratings = Ratings(folder / "ratings.json")
    for number, path in enumerate(write_videos(folder / "videos", 20)):
        for start in (0, CLIP):
            ratings.add(Rating(path, (start, start + CLIP), 5 if number % 2 == 0 else 1))
    return ratings.path


@pytest.fixture(scope="session")
def classifier(rated_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a classifier that keeps bright clips."""
    folder = tmp_path_factory.mktemp("classifier")
    fit_classifier(Ratings(rated_videos), HALVES, folder)
    return folder
