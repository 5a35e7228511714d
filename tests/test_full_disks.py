"""Disks that take no more: commands end in one line, nothing is half-written. A limit of the file size stands in."""

import contextlib
import errno
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from agents.labelling import keep_labels
from agents.windows import read_footage
from genie_gym import cli
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.env_games import find_action_space
from genie_gym.data.frame_writer import FrameWriter
from genie_gym.data.frames import write_image
from genie_gym.data.manifest import Chosen, write_manifest
from genie_gym.data.record import record
from genie_gym.data.shards import Shard, copy_frames
from genie_gym.data.video import write_video
from genie_gym.metrics import i3d
from genie_gym.models.loading import name_checkpoint
from genie_gym.nn.weights import save_described, save_half
from genie_gym.players.specs import parse_shares
from genie_gym.results.files import write_by_machine, write_results
from genie_gym.system import lock_folder

resource = pytest.importorskip("resource", reason="Windows has no limit of the file size")
ENV = ("--env", "tests.data.square_env:Square-v0", "--env-arguments", "length=40")
FRAMES = np.random.default_rng(0).integers(256, size=(40, 64, 64, 3), dtype=np.uint8)


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond ``room`` bytes; Python ignores the signal that would end the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, but for the log of TensorBoard, which grows."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data, of videos and of a finished run."""
    folder = tmp_path_factory.mktemp("made")
    config = RecordConfig(
        env=ENV[1], env_arguments=("length=40",), frames=256, num_envs=4, frames_per_shard=128, num_levels=9
    )
    record(config, parse_shares(["random"], find_action_space(config)), folder / "data", progress=False)
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "0.mp4", FRAMES, fps=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["genie-gym", *train(folder, folder / "run")])
        cli.main()
    return folder


def train(made: Path, out: Path) -> list[str]:
    steps = ("--tokenizer-steps", "2", "--world-steps", "2")
    return ["train", "tiny", "--data", str(made / "data"), "--out", str(out), "--start-clips", "1", *steps]


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "record": lambda made, out: ["record", *ENV, "--out", str(out / "new"), "--frames", "256", "--num-envs", "4"],
    "convert": lambda made, out: ["convert", str(made / "videos"), "--out", str(out / "new"), "--workers", "1"],
    "train": lambda made, out: train(made, out / "new"),
    "train again": lambda made, out: train(made, out / "run"),
    "export": lambda made, out: ["export", str(out / "run"), "--out", str(out / "run" / "checkpoint")],
    "export anew": lambda made, out: ["export", str(out / "run"), "--out", str(out / "new")],
    "demo": lambda made, out: ["demo", "--checkpoint", str(made / "run" / "checkpoint"), "--out", str(out / "new")],
}


@pytest.mark.parametrize("room", [0, 900, 4000, 60_000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_ends_a_command_in_one_line_and_leaves_nothing_half_written(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    room: int,
) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    before = read_files(tmp_path)
    arguments = COMMANDS[command](made, tmp_path)
    if command == "record":
        arguments += ["--players", "random", "--fit", "pad"]
        room = min(room, 6000)  # all shards are larger
    monkeypatch.setattr(sys, "argv", ["genie-gym", *arguments])
    with pytest.raises(SystemExit) as ended, full_disk(room):
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1, told
    assert "Traceback" not in told
    assert len(re.findall("^genie-gym: .*(?:File too large|too large)", told, re.MULTILINE)) == 1, told
    assert str(tmp_path) in told
    after = read_files(tmp_path)
    assert {name: after[name] for name in before} == before
    for name in set(after) - set(before):
        assert name.endswith((".json", ".safetensors", ".png")), name
        if name.endswith(".safetensors"):
            load_file(tmp_path / name)


def write_i3d(path: Path, made: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(i3d, "read_arrays", lambda content: {"kernel": np.ones(900, np.float32)})
        i3d.convert_i3d(made / "run" / "checkpoint" / "config.json", path)


WRITERS: dict[str, Callable[[Path, Path], Any]] = {
    "picture.png": lambda path, made: write_image(path, FRAMES[0]),
    "video.mp4": lambda path, made: write_video(path, FRAMES, fps=10),
    "video.gif": lambda path, made: write_video(path, FRAMES, fps=10),
    "results.json": lambda path, made: write_results(path, {"text": "x" * 2000}),
    "machines.json": lambda path, made: write_by_machine(path, {"machine": {"kind": "x" * 2000}}),
    "weights.safetensors": lambda path, made: save_half(nn.Linear(64, 64), path),
    "policy/weights.safetensors": lambda path, made: save_described(nn.Linear(64, 64), path.parent, {"format": 1}),
    "policy/config.json": lambda path, made: save_described(nn.Linear(1, 1), path.parent, {"text": "x" * 2000}),
    "copy.h5": lambda path, made: copy_frames(made / "data" / "shard-00000.h5", path),
    "written-00000.h5": lambda path, made: write_frames(path.parent),
    "clips.jsonl": lambda path, made: write_manifest(path, [Chosen(made / "videos" / "0.mp4")] * 20, 10, {}),
    "labels.safetensors": lambda path, made: keep_labels(path, {"of": "x"}, lambda: np.arange(900)),
    "frames-*.npy": lambda path, made: read_footage(ClipDataset(made / "data", clip_length=2), path.parent),
    "i3d.safetensors": write_i3d,
    "world/config.json": lambda path, made: name_checkpoint(path.parent, [name * 300 for name in "abcdefgh"]),
}


def write_frames(folder: Path) -> None:
    with FrameWriter(folder) as writer:
        for frame in FRAMES:
            writer.add(frame)


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_written_whole_or_stays_as_it_was(made: Path, tmp_path: Path, name: str, is_there: bool) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name.startswith("world"):
        shutil.copytree(made / "run" / "checkpoint", path.parent, dirs_exist_ok=True)
    elif (is_there and "results" in name) or "machines" in name:
        path.write_text('{"rows": []}')
    elif is_there and not name.startswith(("written", "frames", "labels")):  # these are never replaced
        path.write_text("what was there")
    before = read_files(tmp_path)
    with pytest.raises((OSError, ValueError)) as failed, full_disk(700):
        WRITERS[name](path, made)
    causes = [failed.value, failed.value.__cause__, getattr(failed.value.__cause__, "__cause__", None)]
    assert any(getattr(cause, "errno", None) == errno.EFBIG for cause in causes) or "too large" in str(failed.value)
    assert str(path.parent) in str(failed.value)
    after = read_files(tmp_path)
    if name == "policy/config.json":
        after.pop("policy/weights.safetensors")  # which is whole, and written before
    assert after == before
    WRITERS[name](path, made)
    assert len(read_files(tmp_path)) >= max(1, len(before))


def test_a_disk_that_fills_while_a_shard_is_written_does_not_crash_the_process(made: Path, tmp_path: Path) -> None:
    """HDF5 would, whichever of its writes fails: the first, one of the middle, or the last."""
    whole = tmp_path / "whole.h5"
    copy_frames(made / "data" / "shard-00000.h5", whole)
    for room in np.linspace(1, whole.stat().st_size - 1, 40).astype(int).tolist():
        with pytest.raises(OSError, match=r"File too large: '.*cut\.h5'"), full_disk(room):
            copy_frames(made / "data" / "shard-00000.h5", tmp_path / "cut.h5")
        assert [path.name for path in tmp_path.iterdir()] == ["whole.h5"]
    assert Shard(whole).num_frames == 128


def test_a_lock_that_cannot_be_signed_is_given_back(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"File too large: '.*\.lock'"), full_disk(0), lock_folder(tmp_path):
        raise AssertionError("the folder is not held")
    assert not list(tmp_path.iterdir())
    with lock_folder(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_a_claim_that_cannot_be_written_tells_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h")  # there is room for what is written into the lock
    with FrameWriter(tmp_path, "16x16") as writer, full_disk(40):
        with pytest.raises(OSError, match=r"\.writers"):
            writer.add(np.zeros((16, 16, 3), np.uint8))
        writer.close()
    assert not (tmp_path / ".writers").exists()


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    """The library writes metadata in a random order."""
    from genie_gym.nn.weights import write_tensors

    found = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        write_tensors(path, {"b": torch.zeros(2), "a": torch.ones(3)}, {"step": "1", "config": '"é"\n', "x": ""})
        found.add(path.read_bytes())
    assert len(found) == 1
