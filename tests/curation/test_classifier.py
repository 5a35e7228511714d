"""Tests that the classifier learns what is there to learn and no more, and that the manifest holds what it keeps."""

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_gym import cli
from genie_gym.curation.classifier import fit_classifier, load_classifier, read_examples
from genie_gym.curation.ratings import Rating, Ratings
from genie_gym.curation.selection import Selection, select_clips
from genie_gym.data.clips import ClipDataset
from genie_gym.data.manifest import Chosen, read_manifest
from genie_gym.nn.resnet import ResNet18
from tests.curation.conftest import CLIP, CONFIG, HALVES, MakeVideos


def test_the_network_is_a_resnet_18() -> None:
    assert sum(each.numel() for each in ResNet18(1000).parameters()) == 11_689_512, "as torchvision's"
    assert ResNet18(3, width=8)(torch.rand(2, 3, 90, 160)).shape == (2, 3)


def test_a_plain_difference_is_learned(rated_videos: Path, tmp_path: Path) -> None:
    trained, scores = fit_classifier(Ratings(rated_videos), HALVES, tmp_path / "out")
    assert scores["test"]["precision"]["share"] == scores["test"]["recall"]["share"] == 1.0
    assert [scores[part]["videos"] for part in ("training", "validation", "test")] == [10, 6, 4]
    loaded = load_classifier(tmp_path / "out")
    frames = read_examples(Ratings(rated_videos), CONFIG)[0].frames
    assert np.allclose(loaded.rate(frames), trained.rate(frames), atol=1e-5)
    assert (loaded.threshold, loaded.clip_frames, loaded.config) == (trained.threshold, CLIP, HALVES)


def with_ratings(ratings: Ratings, *given: Rating) -> Ratings:
    """Return other ratings of the same file, which is not written."""
    changed = Ratings(ratings.path)
    changed.given = list(given)
    return changed


def share_told_rightly(ratings: Ratings, out: Path) -> float:
    """Train on the first 12 videos, and return the accuracy on the other 8."""
    seen, unseen = with_ratings(ratings, *ratings.given[:24]), with_ratings(ratings, *ratings.given[24:])
    trained, _ = fit_classifier(seen, replace(HALVES, precision=0.0), out)
    examples, _ = read_examples(unseen, HALVES)
    return float(((trained.rate(examples.frames) > 0.5) == examples.is_good).mean())


def test_shuffled_ratings_teach_nothing(rated_videos: Path, tmp_path: Path) -> None:
    """Half of the bright videos and half of the dark ones are rated as good, so that nothing can be learned."""
    ratings = Ratings(rated_videos)
    shuffled = [each._replace(rating=5 if n // 2 % 4 in (0, 1) else 1) for n, each in enumerate(ratings.given)]
    assert share_told_rightly(ratings, tmp_path / "true") > 0.9
    assert share_told_rightly(with_ratings(ratings, *shuffled), tmp_path / "shuffled") < 0.75


def test_a_run_on_other_ratings_begins_anew(rated_videos: Path, tmp_path: Path) -> None:
    """A run on other ratings could have learned from videos that now lie in the test part."""
    ratings = Ratings(rated_videos)
    for given in (ratings.given, ratings.given[:-2], ratings.given):
        fit_classifier(with_ratings(ratings, *given), HALVES, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("run-*"))) == 2


def test_middle_ratings_are_not_learned_from(rated_videos: Path) -> None:
    ratings = Ratings(rated_videos)
    ratings.given.append(Rating(Path("missing.mp4"), (0, CLIP), 3))
    examples, clip_frames = read_examples(ratings, CONFIG)
    assert (len(examples.is_good), examples.is_good.mean(), clip_frames) == (40, 0.5, CLIP)
    examples, _ = read_examples(ratings, replace(CONFIG, good=(1,), bad=(5,)))
    is_bright = np.array([int(Path(name).stem) % 2 == 0 for name in examples.videos])
    assert np.array_equal(examples.is_good, ~is_bright)


def test_clips_of_several_lengths_are_refused(rated_videos: Path) -> None:
    ratings = Ratings(rated_videos)
    ratings.given.append(ratings.given[0]._replace(span=(8, 15)))
    with pytest.raises(ValueError, match=r"lengths of rated clips must be equal, got \[7, 8\]"):
        read_examples(ratings, CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"good": ()}, "good must be ratings from 1 to 5"),
        ({"bad": (0,)}, "bad must be ratings from 1 to 5"),
        ({"good": (4, 5), "bad": (1, 4)}, "good must be other ratings than the bad ones"),
        ({"precision": 1.5}, r"precision must be in \[0, 1\], got 1.5"),
        ({"validation_share": 0.6, "test_share": 0.4}, "validation_share"),
        ({"train_steps": 0}, "train_steps must be positive"),
        *[({"batch_size": odd}, "batch_size must be a multiple of 2") for odd in (1, 3, 33)],
    ],
)
def test_invalid_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def kept_clips(manifest: Path) -> dict[str, tuple[tuple[int, int], ...]]:
    return {each.path.name: each.spans or () for each in read_manifest(manifest)}


def test_the_manifest_holds_the_bright_clips_and_train_reads_it(
    classifier: Path, make_videos: MakeVideos, tmp_path: Path
) -> None:
    paths, out = make_videos(4, frames=20, folder="new"), tmp_path / "kept.jsonl"
    found = select_clips([Chosen(path) for path in paths], classifier, out)
    assert found == Selection(videos=4, clips=8, kept=4, short=0, broken=0)
    assert kept_clips(out) == {"00.mp4": ((0, 8), (8, 16)), "02.mp4": ((0, 8), (8, 16))}
    dataset = ClipDataset(out, clip_length=4, height=32, width=32)
    assert len(dataset) == 2 * 13
    assert all(dataset[index].mean() > 127 for index in range(len(dataset)))
    assert all(
        score >= load_classifier(classifier).threshold for each in json_lines(out)[1:] for score in each["scores"]
    )


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_interrupted_selection_goes_on_where_it_stopped(
    classifier: Path, make_videos: MakeVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [Chosen(path) for path in make_videos(5, folder="new")]
    select_clips(videos, classifier, tmp_path / "whole.jsonl")
    out, read = tmp_path / "parts.jsonl", []

    def watched(path: Path, *arguments: object) -> Iterator[np.ndarray]:
        read.append(Path(path).name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return iterate(path, *arguments)

    from genie_gym.curation import clips

    iterate = clips.iterate_video
    monkeypatch.setattr(clips, "iterate_video", watched)
    with pytest.raises(KeyboardInterrupt):
        select_clips(videos, classifier, out)
    part = out.with_name("parts.jsonl.part")
    part.write_text(part.read_text() + '{"video": "torn')
    select_clips(videos, classifier, out)
    assert read == ["00.mp4", "01.mp4", "02.mp4", "02.mp4", "03.mp4", "04.mp4"]
    assert out.read_text() == (tmp_path / "whole.jsonl").read_text()
    assert not part.exists()


def test_a_part_of_another_selection_is_not_continued(
    classifier: Path, make_videos: MakeVideos, tmp_path: Path
) -> None:
    (tmp_path / "out.jsonl.part").write_text("{}\n")
    with pytest.raises(ValueError, match=r"out\.jsonl\.part is of another classifier"):
        select_clips([Chosen(path) for path in make_videos(1)], classifier, tmp_path / "out.jsonl")


def test_broken_videos_end_the_selection_or_are_left_out(
    classifier: Path, make_videos: MakeVideos, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths, out = make_videos(3, folder="new"), tmp_path / "kept.jsonl"
    paths[0].write_bytes(b"no video")
    videos = [Chosen(path) for path in (*paths, *make_videos(1, frames=5, folder="short"))]
    with pytest.raises(ValueError, match=r"00\.mp4: .*--on-broken skip"):
        select_clips(videos, classifier, out)
    with caplog.at_level(logging.WARNING):
        found = select_clips(videos, classifier, out, skip_broken=True)
    assert found == Selection(videos=3, clips=4, kept=2, short=1, broken=1)
    assert "00.mp4" in caplog.text
    assert kept_clips(out) == {"02.mp4": ((0, 8), (8, 16))}


@pytest.mark.pipeline
def test_several_processes_write_the_same_manifest(classifier: Path, make_videos: MakeVideos, tmp_path: Path) -> None:
    videos = [Chosen(path) for path in make_videos(4, folder="new")]
    for workers in (1, 2):
        select_clips(videos, classifier, tmp_path / f"{workers}.jsonl", workers=workers)
    assert (tmp_path / "1.jsonl").read_text() == (tmp_path / "2.jsonl").read_text()


@pytest.mark.parametrize("damage", ["config", "weights", "missing"])
def test_a_damaged_classifier_is_refused(classifier: Path, damage: str, tmp_path: Path) -> None:
    classifier = Path(shutil.copytree(classifier, tmp_path / "copy"))
    if damage == "config":
        (classifier / "config.json").write_text('{"format": 1}')
    elif damage == "weights":
        (classifier / "weights.safetensors").write_bytes(b"")
    else:
        (classifier / "config.json").unlink()
    with pytest.raises(ValueError, match="classifier"):
        load_classifier(classifier)


@pytest.mark.parametrize("value", ["8", True, float("nan"), float("inf"), -1, [8], 1e9])
@pytest.mark.parametrize("field", ["clip_frames", "fps", "threshold"])
def test_damaged_numbers_of_a_classifier_are_named(field: str, value: object, classifier: Path, tmp_path: Path) -> None:
    classifier = Path(shutil.copytree(classifier, tmp_path / "copy"))
    about = json.loads((classifier / "config.json").read_text())
    (classifier / "config.json").write_text(json.dumps(about | {field: value}))
    with pytest.raises(ValueError, match=rf"copy' has a damaged config: {field} must be"):
        load_classifier(classifier)


def test_clips_are_counted_at_the_rate_at_which_they_were_rated(
    rated_videos: Path, make_videos: MakeVideos, tmp_path: Path
) -> None:
    """The videos have 15 frames a second: at 5, a clip of 8 lasts 24 of them."""
    ratings = Ratings(rated_videos)
    ratings.fps = 5.0
    ratings.given = [each._replace(span=(0, 6)) for each in ratings.given[::2]]
    fit_classifier(ratings, HALVES, tmp_path / "at5")
    paths, out = make_videos(2, frames=45, folder="new"), tmp_path / "kept.jsonl"
    select_clips([Chosen(path) for path in paths], tmp_path / "at5", out)
    (kept,) = read_manifest(out)
    assert (kept.path.name, kept.spans, kept.fps) == ("00.mp4", ((0, 6), (6, 12)), 5.0)
    frames = np.concatenate(list(ClipDataset(out, clip_length=4, height=32, width=32).read_all()))
    assert frames[:, 0, 0, 0].tolist() == [*range(0, 36, 3)]


def test_rated_clips_may_overlap(make_videos: MakeVideos, tmp_path: Path) -> None:
    """Every frame tells its number in its first pixel."""
    (path,), spans = make_videos(1, frames=30), [(0, 8), (4, 12), (8, 16), (5, 13), (20, 28)]
    ratings = Ratings(tmp_path / "ratings.json")
    for number, span in enumerate(spans):
        ratings.add(Rating(path.parent / "." / path.name, span, 5 if number % 2 == 0 else 1))
    examples, _ = read_examples(ratings, CONFIG)
    told = {int(clip[0, 0, 0, 0]): bool(good) for clip, good in zip(examples.frames, examples.is_good, strict=True)}
    assert told == {start + 2: number % 2 == 0 for number, (start, _) in enumerate(spans)}, "2 of 8: first of 2 shown"


@pytest.mark.parametrize("command", ["filter", "rate", "fit", "select"])
def test_a_result_that_cannot_be_written_is_refused_before_any_work(
    command: str,
    make_videos: MakeVideos,
    rated_videos: Path,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    videos, blocked = make_videos(1)[0].parent, tmp_path / "file" / "out.jsonl"
    blocked.parent.write_text("a file, no folder")
    arguments: dict[str, tuple[object, ...]] = {
        "filter": (videos, "--out", blocked),
        "rate": (videos, "--ratings", blocked),
        "fit": (rated_videos, "--out", blocked),
        "select": (videos, "--classifier", classifier, "--out", blocked),
    }

    def work(*given: object, **named: object) -> None:
        pytest.fail("has begun")

    for function in ("clips.find_chosen", "rules.find_chosen", "classifier.read_examples"):
        monkeypatch.setattr(f"genie_gym.curation.{function}", work)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, command, *arguments[command])
    assert error.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "cannot be written" in said.err


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "curate", *map(str, arguments)])
    cli.main()


def test_filter_fit_and_select_by_command(
    make_videos: MakeVideos,
    rated_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    for number, path in enumerate(make_videos(6, folder="raw")):
        title = f"platformer {'playthrough' if number < 4 else 'movie'}"
        path.with_suffix(".info.json").write_text(json.dumps({"title": title, "description": None}))
    run(monkeypatch, "filter", tmp_path / "raw", "--out", tmp_path / "filtered.jsonl")
    assert "4 kept" in capsys.readouterr().out
    small = ("--height", 32, "--width", 32, "--frames", 2, "--channels", 8, "--train-steps", 30, "--batch-size", 16)
    run(monkeypatch, "fit", rated_videos, "--out", tmp_path / "c", *small, "--precision", 0.9)
    told = capsys.readouterr().out
    assert "test: 8 clips of 4 videos, 4 good\n  precision 1.000 [0.342, 1.000] of 2 videos" in told
    kept = ("--classifier", tmp_path / "c", "--out", tmp_path / "kept.jsonl")
    run(monkeypatch, "select", tmp_path / "filtered.jsonl", *kept)
    assert "kept 4 of 8 clips of 4 videos" in capsys.readouterr().out
    assert set(kept_clips(tmp_path / "kept.jsonl")) == {"00.mp4", "02.mp4"}
