"""A selection that was interrupted, whatever has changed since, ends with the manifest of an uninterrupted one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from genie_gym.curation import clips
from genie_gym.curation.classifier import fit_classifier
from genie_gym.curation.ratings import Ratings
from genie_gym.curation.selection import select_clips
from genie_gym.data.manifest import Chosen
from tests.curation.conftest import CLIP, HALVES, MakeVideos


def interrupt(videos: list[Chosen], classifier: Path, out: Path, skip_broken: bool = False) -> None:
    """Select, and stop at the last video."""

    def iterate(path: Path, *given: object) -> object:
        if path == videos[-1].path:
            raise KeyboardInterrupt
        return read(path, *given)

    read = clips.iterate_video
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "iterate_video", iterate)
        with pytest.raises(KeyboardInterrupt):
            select_clips(videos, classifier, out, skip_broken)


def cut_others(paths: list[Path]) -> list[Chosen]:
    return [Chosen(path, ((CLIP + 1, 2 * CLIP + 1),)) for path in paths]


def change_contents(paths: list[Path]) -> list[Chosen]:
    bright, dark = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(dark)
    paths[1].write_bytes(bright)
    return [Chosen(path) for path in paths]


def name_twice(paths: list[Path]) -> list[Chosen]:
    """Name a video again with other stretches, as two manifests may do."""
    return [*(Chosen(path) for path in paths), Chosen(paths[0], ((2, 2 + CLIP),))]


@pytest.mark.parametrize("change", [cut_others, change_contents, name_twice])
def test_rows_of_what_has_changed_are_not_taken_over(
    change: Callable[[list[Path]], list[Chosen]], classifier: Path, make_videos: MakeVideos, tmp_path: Path
) -> None:
    paths, out = make_videos(4, folder="new"), tmp_path / "out.jsonl"
    interrupt([Chosen(path) for path in paths], classifier, out)
    videos = change(paths)
    found = select_clips(videos, classifier, out)
    assert found == select_clips(videos, classifier, tmp_path / "whole.jsonl")
    assert out.read_text() == (tmp_path / "whole.jsonl").read_text()


def test_broken_videos_are_tried_again(classifier: Path, make_videos: MakeVideos, tmp_path: Path) -> None:
    paths, out = make_videos(3, folder="new"), tmp_path / "out.jsonl"
    videos, whole = [Chosen(path) for path in paths], paths[0].read_bytes()
    paths[0].write_bytes(b"no video")
    interrupt(videos, classifier, out, skip_broken=True)
    with pytest.raises(ValueError, match=r"00\.mp4: .*--on-broken skip"):
        select_clips(videos, classifier, out)
    paths[0].write_bytes(whole)
    assert select_clips(videos, classifier, out).broken == 0


@pytest.mark.parametrize("field", ["threshold", "clip_frames", "fps", "frames", "height", "width"])
def test_rows_of_a_classifier_with_other_settings_are_refused(
    field: str, classifier: Path, make_videos: MakeVideos, tmp_path: Path
) -> None:
    videos, out = [Chosen(path) for path in make_videos(2, folder="new")], tmp_path / "out.jsonl"
    about = json.loads((classifier / "config.json").read_text())
    interrupt(videos, classifier, out)
    part = out.with_name("out.jsonl.part").read_text()
    group = about if field in about else about["config"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights.safetensors").symlink_to(classifier / "weights.safetensors")
    group[field] = {"threshold": 0.25, "fps": 5.0}.get(field, 4)
    (other / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"out\.jsonl\.part is of another classifier"):
        select_clips(videos, other, out)
    assert out.with_name("out.jsonl.part").read_text() == part, "nothing is lost"


def test_a_classifier_that_was_fitted_again_in_the_same_folder_is_noticed(
    rated_videos: Path, make_videos: MakeVideos, tmp_path: Path
) -> None:
    folder, videos, out = tmp_path / "again", [Chosen(path) for path in make_videos(2)], tmp_path / "out.jsonl"
    fit_classifier(Ratings(rated_videos), HALVES, folder)
    interrupt(videos, folder, out)
    fit_classifier(Ratings(rated_videos), replace(HALVES, seed=1), folder)
    with pytest.raises(ValueError, match=r"out\.jsonl\.part is of another classifier"):
        select_clips(videos, folder, out)


@pytest.mark.parametrize("row", ["[]", '{"video": "a"}', "torn", "3"])
def test_damaged_rows_are_refused(row: str, classifier: Path, make_videos: MakeVideos, tmp_path: Path) -> None:
    videos, out = [Chosen(path) for path in make_videos(2, folder="new")], tmp_path / "out.jsonl"
    interrupt(videos, classifier, out)
    with out.with_name("out.jsonl.part").open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(ValueError, match=r"out\.jsonl\.part is damaged .*: remove it"):
        select_clips(videos, classifier, out)
