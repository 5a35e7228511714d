"""Tests of the experiment on curation: its generated videos, its linear classifier, and the whole at a small size."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.lib.generated_videos import draw_menu, film_scene, overlay_score
from experiments.lib.tables.curation import tabulate_curation
from experiments.paper.curation import CurationExperiment, score_linear
from genie_gym.curation.classifier import Examples

GAME = np.random.default_rng(0).integers(256, size=(30, 64, 64, 3), dtype=np.uint8)


def test_generated_videos_depend_on_the_seed_alone() -> None:
    for make in (draw_menu, film_scene):
        first, again, other = (make(np.random.default_rng(seed), 30) for seed in (1, 1, 2))
        assert first.shape == (30, 64, 64, 3)
        assert first.dtype == np.uint8
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_hard_cases_show_the_game() -> None:
    """Else they would be as easy as the others."""
    rng = np.random.default_rng
    paused, without = draw_menu(rng(3), 30, GAME[0]), draw_menu(rng(3), 30, GAME[0] // 8)
    assert not np.array_equal(paused, without)
    filmed, dark = film_scene(rng(3), 30, GAME), film_scene(rng(3), 30, np.zeros_like(GAME))
    assert np.abs(filmed.astype(int) - dark).mean() > 5
    assert (overlay_score(rng(3), GAME) == GAME).mean() > 0.8


def test_a_camera_shakes_and_a_menu_stands_still_between_changes() -> None:
    moved = [np.abs(np.diff(video.astype(int), axis=0)).mean(axis=(1, 2, 3)) for video in map_kinds()]
    assert np.median(moved[0]) < np.median(moved[1])


def map_kinds() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [draw_menu(rng, 30, GAME[0]), film_scene(rng, 30)]


def test_the_linear_classifier_tells_bright_clips_from_dark_ones() -> None:
    rng = np.random.default_rng(0)
    is_good = np.arange(60) % 2 == 0
    frames = (rng.integers(100, size=(60, 4, 8, 8, 3)) + 150 * is_good[:, None, None, None, None]).astype(np.uint8)
    sides = [np.arange(0, 36), np.arange(36, 48), np.arange(48, 60)]
    examples = Examples(frames, is_good, np.array([str(number) for number in range(60)]))
    assert score_linear(examples, sides, 0.95)["precision"]["share"] == 1.0
    shuffled = examples._replace(is_good=rng.permutation(is_good))
    scores = score_linear(shuffled, sides, 0.3)
    assert scores.get("precision", {"share": 0})["share"] < 0.9


@pytest.mark.pipeline
def test_the_whole_experiment_at_a_small_size(tmp_path: Path) -> None:
    pytest.importorskip("procgen")
    CurationExperiment(out=tmp_path / "out", work=tmp_path / "work").run()
    results = json.loads((tmp_path / "out" / "results" / "smoke" / "curation.json").read_text())
    assert results["clips_by_kind"] == {"camera": 16, "game": 24, "menu": 16}
    assert [len(results[name]) for name in ("splits", "unseen_games")] == [3, 2]
    assert results["manifest"]["training_clips"] > 0
    table = tabulate_curation(results)
    assert table.count("ResNet-18") == 3
