"""Tests that LeRobot datasets are read as videos, clips stay within episodes, and damage is refused by name."""

import copy
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genie_gym
from genie_gym import cli
from genie_gym.config_io import vary
from genie_gym.curation.clips import list_videos
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import ConvertConfig
from genie_gym.data.convert import convert, prepare_clips
from genie_gym.data.frame_writer import FrameWriter
from genie_gym.data.lerobot import read_lerobot
from genie_gym.data.shards import Shard
from genie_gym.data.sources import find_chosen
from genie_gym.data.video import write_video
from genie_gym.extras import MissingExtraError
from genie_gym.labels import LabelCommand
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.gather import gather_data
from genie_gym.presets import PRESETS
from genie_gym.training.commands import TrainCommand
from tests.data.lerobot_files import CAMERAS, FPS, make_frames, read_rows, write_dataset, write_rows
from tests.data.test_damaged_lists import OTHERS, damage, fields

VERSIONS = ("v2.0", "v2.1", "v3.0")
LENGTHS = (7, 5, 9)
CONFIG = ConvertConfig(fps=None, size="16x16", clip_length=4)


def brightness(dataset: ClipDataset) -> list[list[int]]:
    """Return the brightness of each frame of each clip."""
    return [dataset[number][:, 0, 0, 0].tolist() for number in range(len(dataset))]


def clips_of(length: int, camera: int = 0, step: int = 1, starts: Sequence[int] = (0, 0, 0)) -> list[list[int]]:
    """Return the brightness of all clips of ``length`` frames, each within one episode.

    Every ``step``-th frame of a file is taken, in which the episodes begin at ``starts``.
    """
    clips = []
    for episode, frames in enumerate(LENGTHS):
        values = [100 * camera + 20 * episode + t for t in range(frames) if (starts[episode] + t) % step == 0]
        clips += [values[first : first + length] for first in range(len(values) - length + 1)]
    return clips


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fps", [None, FPS, 10])
def test_no_clip_crosses_episodes(version: str, fps: float | None, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", version, LENGTHS)
    config = ConvertConfig(fps=fps, size="16x16", clip_length=2)
    conversion = convert(folder, tmp_path / "clips", config, workers=1, progress=False)
    expected = clips_of(2, step=3 if fps == 10 else 1, starts=(0, LENGTHS[0] if version == "v3.0" else 0, 0))
    assert brightness(ClipDataset(tmp_path / "clips", 2, height=16, width=16)) == expected
    assert conversion.lines[-1] == f"  the actions of {folder} are left out: clips of videos hold frames alone"
    (index,) = {json.loads(Shard(shard).attributes["settings"])["fps"] for shard in conversion.shards}
    assert index == (fps or FPS)


@pytest.mark.parametrize("version", VERSIONS)
def test_clips_are_read_without_conversion(version: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", version, LENGTHS)
    assert brightness(ClipDataset(folder, 4, height=16, width=16)) == clips_of(4)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_of_several_cameras_is_chosen(version: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", version, LENGTHS, CAMERAS)
    for name in (None, "", "front.", "images", "top"):
        with pytest.raises(ValueError, match=r"camera.*observation.images.front, observation.images.wrist"):
            find_chosen(folder, camera=name)
    for number, full in enumerate(CAMERAS):
        for name in (full, full.rpartition(".")[2]):
            said: list[str] = []
            config = ConvertConfig(fps=None, size="16x16", clip_length=4, camera=name)
            prepared = prepare_clips(folder, tmp_path / full, config, said.append, workers=1)
            assert prepared.fps == FPS
            found = brightness(ClipDataset(prepared.files, 4, height=16, width=16))
            assert found == clips_of(4, camera=number)


def test_a_camera_is_for_datasets_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", "v2.1", LENGTHS)
    video = next((tmp_path / "set").rglob("*.mp4"))
    for read in (
        lambda: find_chosen(video, camera="front"),
        lambda: convert(video, tmp_path / "clips", ConvertConfig(camera="front"), progress=False),
    ):
        with pytest.raises(ValueError, match=r"camera must be left out.*'front'"):
            read()


@pytest.mark.parametrize("version", VERSIONS)
def test_folders_around_and_inside_a_dataset_are_refused(version: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "all" / "set", version, LENGTHS)
    for inside in (tmp_path / "all", folder / "videos", next(folder.rglob("*.mp4")).parent):
        for read in (find_chosen, lambda path: convert(path, tmp_path / "clips", CONFIG, progress=False)):
            with pytest.raises(ValueError, match=f"LeRobot dataset {folder}; name that folder itself"):
                read(inside)


def test_the_commands_take_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS, CAMERAS)
    out = ["--out", str(tmp_path / "clips"), "--camera", "wrist", "--size", "16x16"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", "convert", str(folder), "--fps", "30", *out])
    cli.main()
    assert "21 frames of 16 x 16 from 3 of 3 videos" in capsys.readouterr().out
    out = ["--out", str(tmp_path / "run"), "--camera", "left"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", "train", "tiny", "--data", str(folder), *out])
    with pytest.raises(SystemExit):
        cli.main()
    assert "camera must be one of" in capsys.readouterr().err


@pytest.mark.parametrize("version", VERSIONS)
def test_each_episode_is_labelled_alone(
    version: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the stretches of frames that are labelled at once, and an episode of one frame."""
    lengths = (70, 1, 9)
    folder, table = write_dataset(tmp_path / "set", version, lengths, CAMERAS), tmp_path / "labels.csv"
    options = ["--checkpoint", str(tiny_checkpoint), "--out", str(table), "--camera", "wrist"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", "label", str(folder), *options])
    cli.main()
    head, *rows = csv.reader(table.open())
    assert head == ["video", "frame", "latent_action", "name"]
    expected = []
    for episode, length in enumerate(lengths):
        start = lengths[0] if version == "v3.0" and episode == 1 else 0
        frames = make_frames(1, episode, length)
        labels = genie_gym.label(frames, tiny_checkpoint).tolist() if length > 1 else []
        expected += [[str(frame), str(action)] for frame, action in enumerate(labels, start)]
    assert [row[1:3] for row in rows] == expected
    assert all((folder / row[0]).is_file() and CAMERAS[1] in row[0] for row in rows)


@pytest.mark.parametrize(
    ("fps", "told"), [(0.0, "fps must be"), (-1.0, "fps must be"), (float("nan"), "fps must be"), (0.01, "two frames")]
)
def test_rates_that_leave_no_transition_are_refused(
    fps: float, told: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder, table = write_dataset(tmp_path / "set", "v2.1", LENGTHS), tmp_path / "labels.csv"
    with pytest.raises(ValueError, match=told):
        LabelCommand(video=folder, checkpoint=str(tiny_checkpoint), fps=fps, out=table).run()
    assert not table.exists()


def test_a_dataset_of_another_rate_is_not_scored(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS)
    with pytest.raises(ValueError, match=r"the world's 10 frames a second, got clips of 30\.0"):
        gather_data(EvaluateConfig(data=folder), (16, 16), tmp_path, lambda stage, share: None, fps=10.0)


def test_a_camera_applies_to_the_datasets_among_videos(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS, CAMERAS)
    plain = tmp_path / "plain" / "video.mp4"
    plain.parent.mkdir()
    write_video(plain, make_frames(0, 1, 8), fps=FPS)
    size = {"height": 16, "width": 16}
    preset = vary(PRESETS["tiny"], {f"world.{side}": pixels for side, pixels in size.items()})
    for data, start_data in ((folder, plain.parent), (plain.parent, folder)):
        out = tmp_path / f"run-{data.name}"
        command = TrainCommand(
            preset="tiny", data=(data,), start_data=(start_data,), out=out, camera="wrist", start_clips=1, config={}
        )
        _, dataset, _ = command._open(preset, is_first=True)
        assert len(dataset) > 0


def test_shards_inside_a_dataset_are_no_videos_of_it(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS)
    with FrameWriter(folder / "played", "16x16") as writer:
        for frame in make_frames(0, 1, 8):
            writer.add(frame)
    assert ClipDataset(folder / "played", 4).num_frames == 8


def test_curation_refuses_episodes_that_its_manifests_would_join(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"videos must be files of videos"):
        list_videos([write_dataset(tmp_path / "set", "v2.1", LENGTHS)])


def test_a_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(read_lerobot(folder)) == 3, "only version 3.0 needs it"
    info = folder / "meta" / "info.json"
    info.write_text(info.read_text().replace("v2.1", "v3.0"))
    path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(MissingExtraError, match=r"pip install 'genie-gym\[lerobot\]'"):
        read_lerobot(folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_or_short_video_is_named(version: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", version, LENGTHS)
    *_, last = sorted(folder.rglob("*.mp4"))
    whole = last.read_bytes()
    last.unlink()
    with pytest.raises(ValueError, match=f"video of episode 2 must be a file that exists, got '{last}'"):
        read_lerobot(folder)
    shorter = write_dataset(tmp_path / "shorter", version, (7, 5, 8))
    last.write_bytes(next(shorter / path.relative_to(folder) for path in [last]).read_bytes())
    with pytest.raises(ValueError, match=f"{last.name}: has 8 frames, and its clips end at 9"):
        convert(folder, tmp_path / "clips", CONFIG, workers=1, progress=False)
    last.write_bytes(whole)
    assert len(convert(folder, tmp_path / "clips", CONFIG, workers=1, progress=False).shards) == 1


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize(
    "template",
    [
        "../{video_key}.mp4",
        "videos/../../{video_key}.mp4",
        "/etc/{video_key}.mp4",
        "..\\{video_key}.mp4",
        "videos/{video_key}.h5",
        "videos/{video_key}",
        "meta/info.json",
        "videos/{video_key.__class__}.mp4",
        "videos/{video_key!r}.mp4",
        "videos/{0}.mp4",
        "videos/{}.mp4",
        "videos/{robot}.mp4",
        "videos/{video_key:09999999999d}.mp4",
        "videos/{video_key:>9999999}.mp4",
        "videos/{video_key}\0.mp4",
        "",
        7,
        None,
    ],
)
def test_templates_that_lead_elsewhere_are_refused(version: str, template: Any, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", version, LENGTHS)
    info = folder / "meta" / "info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "video_path": template}))
    with pytest.raises(ValueError, match=r"meta/info.json: video_path must be"):
        read_lerobot(folder)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_camera_whose_name_leads_elsewhere_is_refused(version: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", version, LENGTHS)
    info = folder / "meta" / "info.json"
    info.write_text(info.read_text().replace(CAMERAS[0], "../../../x"))
    if version == "v3.0":
        write_rows(folder, {name.replace(CAMERAS[0], "../../../x"): each for name, each in read_rows(folder).items()})
    with pytest.raises(ValueError, match=r"meta/info.json: video_path must be a path within the dataset, got.*\.\./x"):
        read_lerobot(folder)


def is_refused(folder: Path, name: str) -> bool:
    """Return whether a dataset is refused by a name or by that of a video; any other error fails."""
    try:
        read_lerobot(folder)
    except ValueError as error:
        told = str(error)
    else:
        return False
    assert name in told or "video of episode" in told or ": episodes" in told
    return True


def test_damage_of_any_field_of_the_metadata_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS)
    info, listed = folder / "meta" / "info.json", folder / "meta" / "episodes.jsonl"
    whole, lines = info.read_text(), listed.read_text()
    values = json.loads(whole)
    tried = refused = 0
    for path in fields(values):
        for damaged in damage(values, path):
            info.write_text(json.dumps(damaged))
            tried, refused = tried + 1, refused + is_refused(folder, "info.json")
    assert refused > tried // 4
    info.write_text(whole)
    first, rest = lines.split("\n", 1)
    tried = refused = 0
    for path in fields(json.loads(first)):
        for damaged in damage(json.loads(first), path):
            listed.write_text(f"{json.dumps(damaged)}\n{rest}")
            tried, refused = tried + 1, refused + is_refused(folder, "meta")
    assert refused > tried // 4
    for text in ("", "\n", "{", "7\n", lines + lines, "[" * 100_000, "<html>"):
        listed.write_text(text)
        with pytest.raises(ValueError, match=r"meta"):
            read_lerobot(folder)
    listed.unlink()
    with pytest.raises(ValueError, match=r"episodes.jsonl"):
        read_lerobot(folder)


def test_damage_of_any_column_of_joined_episodes_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v3.0", LENGTHS)
    rows = read_rows(folder)
    columns = [name for name in rows if name != "tasks"]
    for name in columns:
        for other in (None, -1, 10**12, 0.5, float("nan"), float("inf"), "x", [], ...):
            damaged = copy.deepcopy(rows)
            if other is ...:
                del damaged[name]
            else:
                damaged[name] = [other] * len(LENGTHS)
            write_rows(folder, damaged)
            with pytest.raises(ValueError, match=f"file-000.parquet.*{name}"):
                read_lerobot(folder)
    rows["videos/observation.images.front/from_timestamp"][1] -= 1 / FPS
    rows["length"][1] += 1
    write_rows(folder, rows)
    with pytest.raises(ValueError, match=r"file-000.mp4: episodes 0, 1 must be apart, got 'frames 0 to 7 and 6 to 12'"):
        read_lerobot(folder)


def test_damaged_lists_of_joined_episodes_are_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v3.0", LENGTHS)
    (path,) = folder.rglob("*.parquet")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for cut in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"file-000.parquet: is damaged or no parquet file"):
            read_lerobot(folder)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        is_refused(folder, path.name)
    path.unlink()
    with pytest.raises(ValueError, match=r"meta/episodes: number of \*.parquet files must be positive, got 0"):
        read_lerobot(folder)


def test_other_versions_and_cameras_of_pictures_are_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", "v2.1", LENGTHS)
    info = folder / "meta" / "info.json"
    whole = info.read_text()
    info.write_text(whole.replace('"video"', '"image"'))
    with pytest.raises(ValueError, match=r"info.json: features must have one of dtype 'video', got none; its cameras"):
        read_lerobot(folder)
    for version in ("v1.6", "v4.0", "", None, *OTHERS[:3]):
        info.write_text(json.dumps({**json.loads(whole), "codebase_version": version}))
        with pytest.raises(ValueError, match=r"info.json: codebase_version must be one of v2.0, v2.1, v3.0, got"):
            read_lerobot(folder)
