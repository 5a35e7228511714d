"""Tests that no video is on both sides of a split, and that scores, intervals and thresholds mean what they say."""

import numpy as np
import pytest

from genie_gym.curation.scores import Scored, choose_threshold, score_rule, split_videos


def rated(videos: int, clips: int) -> tuple[list[str], np.ndarray]:
    """Return names of videos and whether clips are good, for interleaved clips of as many good videos as bad ones."""
    names = [f"{number:03d}.mp4" for _ in range(clips) for number in range(videos)]
    return names, np.array([int(name[:3]) % 2 == 0 for name in names])


@pytest.mark.parametrize("seed", range(5))
def test_no_video_is_on_both_sides_of_the_split(seed: int) -> None:
    names, is_good = rated(videos=20, clips=7)
    sides = split_videos(names, is_good, (0.6, 0.2, 0.2), seed)
    videos = [{names[index] for index in side} for side in sides]
    assert [len(each) for each in videos] == [12, 4, 4]
    assert len(set.union(*videos)) == 20, "so no video is in two of them"
    assert sorted(np.concatenate(sides).tolist()) == list(range(140))
    assert all(is_good[side].mean() == 0.5 for side in sides)


def test_videos_with_good_and_bad_clips_stay_together() -> None:
    names = [f"{number % 12}" for number in range(120)]
    is_good = np.random.default_rng(0).random(120) < 0.5
    sides = split_videos(names, is_good, (0.5, 0.25, 0.25), seed=0)
    videos = [{names[index] for index in side} for side in sides]
    assert sum(len(each) for each in videos) == len(set.union(*videos)) == 12


def test_the_seed_decides_the_split() -> None:
    names, is_good = rated(videos=20, clips=2)
    splits = {tuple(split_videos(names, is_good, (0.6, 0.2, 0.2), seed)[2].tolist()) for seed in (0, 0, 1, 2)}
    assert len(splits) == 3


@pytest.mark.parametrize("videos", [2, 4])
def test_too_few_videos_are_refused_with_their_number(videos: int) -> None:
    names, is_good = rated(videos=videos, clips=50)
    with pytest.raises(ValueError, match=rf"rate more videos \({videos} have good or bad ratings\)"):
        split_videos(names, is_good, (0.6, 0.2, 0.2), seed=0)


def test_precision_and_recall_of_a_rule() -> None:
    """Kept are 4 clips, 3 of them good; 5 clips are good."""
    confidences = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1])
    is_good = np.array([1, 1, 0, 1, 1, 1, 0, 0], dtype=bool)
    scores = score_rule(Scored(confidences, is_good, np.arange(8)), 0.6)
    assert (scores["kept"], scores["kept_good"], scores["clips"], scores["good"], scores["videos"]) == (4, 3, 8, 5, 8)
    assert scores["precision"]["share"] == 0.75
    assert scores["recall"]["share"] == 0.6
    assert scores["all_kept"]["share"] == 5 / 8
    assert scores["precision"]["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-3), "Wilson's, of 3 in 4"


def test_clips_of_one_video_make_an_interval_no_narrower() -> None:
    once = Scored(np.ones(10), np.arange(10) < 8, np.arange(10))
    often = Scored(*(np.repeat(each, 50) for each in once))
    apart = often._replace(videos=np.arange(500))
    assert score_rule(often, 0.5)["precision"] == score_rule(once, 0.5)["precision"]
    low, high = score_rule(apart, 0.5)["precision"]["interval"]
    wide_low, wide_high = score_rule(once, 0.5)["precision"]["interval"]
    assert wide_low < low < high < wide_high


def test_clips_of_unequal_videos_are_worth_fewer_than_their_number() -> None:
    """Nine of ten clips are of one video: little more than one observation."""
    uneven = Scored(np.ones(10), np.arange(10) > 0, np.array([1] + [0] * 9))
    low, high = score_rule(uneven, 0.5)["precision"]["interval"]
    assert high - low > 0.7


def test_an_interval_has_a_width_where_all_clips_are_right() -> None:
    scores = score_rule(Scored(np.ones(20), np.ones(20, dtype=bool), np.arange(20)), 0.5)
    assert scores["precision"]["interval"] == pytest.approx([0.839, 1.0], abs=1e-3)


def test_a_rule_that_keeps_nothing_has_no_precision() -> None:
    scores = score_rule(Scored(np.zeros(4), np.array([1, 1, 0, 0], dtype=bool), np.arange(4)), 0.5)
    assert (scores["kept"], scores["precision"]["share"], scores["recall"]["share"]) == (0, None, 0.0)


def test_the_interval_covers_the_truth_in_95_of_100_draws_of_videos() -> None:
    """In the worst case of clips that are all right or all wrong together."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        hits = np.repeat(rng.random(30) < 0.8, 5)
        scores = score_rule(Scored(np.ones(150), hits, np.repeat(np.arange(30), 5)), 0.5)
        low, high = scores["precision"]["interval"]
        covered += low <= 0.8 <= high
    assert covered >= 0.92 * 400


@pytest.mark.parametrize(("precision", "kept"), [(1.0, 2), (0.75, 4), (0.7, 4), (0.6, 6), (0.0, 6)])
def test_the_threshold_keeps_the_most_good_clips_at_the_wanted_precision_and_no_bad_ones_below(
    precision: float, kept: int
) -> None:
    """Precision of the 1 to 8 most confident clips: 1, 1, 2/3, 3/4, 3/5, 4/6, 4/7, 4/8."""
    confidences = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    is_good = np.array([1, 1, 0, 1, 0, 1, 0, 0], dtype=bool)
    order = np.random.default_rng(0).permutation(8)
    scored = Scored(confidences[order], is_good[order], np.arange(8))
    assert score_rule(scored, choose_threshold(scored, precision))["kept"] == kept


def test_equal_confidences_are_kept_or_dropped_together() -> None:
    scored = Scored(np.array([0.9, 0.5, 0.5, 0.5]), np.array([1, 1, 0, 0], dtype=bool), np.arange(4))
    threshold = choose_threshold(scored, 0.6)
    assert (score_rule(scored, threshold)["kept"], score_rule(scored, threshold)["precision"]["share"]) == (1, 1.0)


def test_a_precision_that_no_threshold_has_is_refused() -> None:
    scored = Scored(np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1], dtype=bool), np.arange(3))
    with pytest.raises(ValueError, match=r"no threshold has a precision of 0.95, the highest is 0.667"):
        choose_threshold(scored, 0.95)
