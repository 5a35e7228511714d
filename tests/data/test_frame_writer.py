"""Frames recorded from a loop of one's own, and from an environment that anything plays."""

import contextlib
import dataclasses
import errno
import multiprocessing
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from genie_gym.data import frame_writer
from genie_gym.data.clips import ClipDataset
from genie_gym.data.frame_writer import FrameWriter, RecordFrames, record_in_window
from genie_gym.data.shards import Shard
from genie_gym.system import lock_folder
from tests.data.square_env import SIZE
from tests.data.test_env_games import CONFIG, play

NAME = "tests.data.square_env:Square-v0"


def frame(value: int) -> np.ndarray:
    return np.full((32, 32, 3), value, dtype=np.uint8)


def test_shards_hold_what_was_added_and_later_writers_add_to_them(tmp_path: Path) -> None:
    for session in range(2):
        with FrameWriter(tmp_path, "16x16", frames_per_shard=4) as writer:
            for step in range(6):
                writer.add(frame(10 * session + step), action=step % 3, reward=step / 2, is_first=step == 2)
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"written-0000{number}.h5" for number in range(4)]
    shards = [Shard(path) for path in paths]
    assert [shard.num_frames for shard in shards] == [4, 2, 4, 2]
    values = [shard.read(0, shard.num_frames)[:, 0, 0, 0].tolist() for shard in shards]
    assert values == [[0, 1, 2, 3], [4, 5], [10, 11, 12, 13], [14, 15]]
    assert shards[0].episodes.tolist() == [0, 2]
    assert shards[0].private(0, 4)[0].tolist() == [0, 1, 2, 0]
    assert shards[0].private(0, 4)[1].tolist() == [0, 0.5, 1, 1.5]
    assert ClipDataset(tmp_path, clip_length=2)[0].shape == (2, 64, 64, 3)


@pytest.mark.parametrize(
    ("settings", "action", "told"),
    [
        ({"size": "32x32"}, 0, r"written-00000\.h5 has frames of .*16x16.*, not .*32x32.*; choose another folder"),
        ({"fit": "pad"}, 0, r"written-00000\.h5 has frames of .*'crop'.*, not .*'pad'"),
        ({}, [0, 1], r"action must be int32 of shape \(\) like those before, got \[0, 1\]"),
        ({}, [0.5], r"action must be int32 of shape \(\) like those before, got \[0\.5\]"),
    ],
)
def test_a_folder_of_another_kind_of_recording_is_refused(
    tmp_path: Path, settings: dict[str, Any], action: Any, told: str
) -> None:
    with FrameWriter(tmp_path, "16x16") as writer:
        writer.add(frame(1))
    before = (tmp_path / "written-00000.h5").read_bytes()
    with pytest.raises(ValueError, match=told), FrameWriter(tmp_path, **{"size": "16x16", **settings}) as other:
        other.add(frame(1), action)
    assert [path.name for path in tmp_path.iterdir()] == ["written-00000.h5"]
    assert (tmp_path / "written-00000.h5").read_bytes() == before


def test_recordings_of_commands_and_of_loops_do_not_share_a_folder(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "written") as writer:
        writer.add(frame(1))
    with pytest.raises(ValueError, match=r"written-00000\.h5 belongs to a recording by FrameWriter or in a window"):
        play(CONFIG, tmp_path / "written")
    play(CONFIG, tmp_path / "recorded")
    with pytest.raises(ValueError, match=r"shard-00000\.h5 belongs to another recording: .*Square"):
        FrameWriter(tmp_path / "recorded")


def test_a_writer_does_not_wait_for_a_command_that_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_writer, "_PATIENCE", 0.1)
    with lock_folder(tmp_path), pytest.raises(ValueError, match="is in use by process"):
        FrameWriter(tmp_path)


def test_writers_in_a_folder_at_the_same_time_lose_no_frames(tmp_path: Path) -> None:
    def write(value: int) -> None:
        with FrameWriter(tmp_path, "16x16", frames_per_shard=2) as writer:
            for _ in range(20):
                writer.add(frame(value))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"written-{number:05d}.h5" for number in range(40)]
    assert sorted(int(Shard(path).read(0, 1)[0, 0, 0, 0]) for path in paths) == sorted([*range(4)] * 10)


class OtherProcess:
    """A process that opens a writer, adds a frame to it and closes it, each when it is told to.

    Args:
        out: Folder to write into.
        size: Size of the frames.
        action: Action of the frame.
    """

    def __init__(self, out: Path, size: str, action: Any = 0) -> None:
        self.here, there = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(there, out, size, action))
        self.process.start()
        there.close()

    def go_on(self) -> None:
        self.here.send("")

    def tell(self) -> str:
        """Return what came of the last step."""
        return str(self.here.recv())

    @staticmethod
    def _run(there: Any, out: Path, size: str, action: Any) -> None:
        there.recv()
        try:
            with FrameWriter(out, size) as writer:
                there.send("open")
                there.recv()
                writer.add(frame(0), action)
            there.send("closed")
        except ValueError as error:
            there.send(str(error))


@contextlib.contextmanager
def start_writers(*writers: tuple[Any, ...]) -> Iterator[list[OtherProcess]]:
    """Start a process for each writer's arguments; all end with the context."""
    started = [OtherProcess(*arguments) for arguments in writers]
    try:
        yield started
    finally:
        for each in started:
            each.process.kill()
            each.process.join()


forks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither forks nor such locks")


@forks
@pytest.mark.parametrize("turn", range(5))
def test_of_writers_that_open_an_empty_folder_at_once_those_of_one_size_stay(tmp_path: Path, turn: int) -> None:
    with start_writers(*((tmp_path, size) for size in ("16x16", "32x32") * 3)) as writers:
        for writer in writers:
            writer.go_on()
        told = [writer.tell() for writer in writers]
        kept, other = ("16x16", "32x32") if told[0] == "open" else ("32x32", "16x16")
        losers = told[1::2] if told[0] == "open" else told[::2]
        assert told.count("open") == len(losers) == 3
        for line in losers:
            assert re.fullmatch(rf".* is in use by .*{kept}.*, not .*{other}.*; choose another folder", line)
        stayed = [writer for writer, line in zip(writers, told, strict=True) if line == "open"]
        for writer in stayed:
            writer.go_on()
        assert [writer.tell() for writer in stayed] == ["closed"] * 3
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"written-0000{number}.h5" for number in range(3)]
    assert {Shard(path).attributes["size"] for path in tmp_path.iterdir()} == {kept}


@forks
def test_of_writers_in_an_empty_folder_the_first_action_decides_the_kind(tmp_path: Path) -> None:
    with start_writers((tmp_path, "16x16", 0), (tmp_path, "16x16", [0.5, 1.0])) as writers:
        told = []
        for _ in range(2):
            for writer in writers:
                writer.go_on()
                told.append(writer.tell())
    refused = "action must be int32 of shape () like those before, got [0.5, 1.0]"
    assert told == ["open", "open", "closed", refused]
    assert [path.name for path in tmp_path.iterdir()] == ["written-00000.h5"]


@forks
def test_a_writer_that_was_killed_or_wrote_nothing_claims_nothing(tmp_path: Path) -> None:
    with start_writers((tmp_path, "16x16")) as (other,):
        other.go_on()
        assert other.tell() == "open"
        with pytest.raises(ValueError, match=r"is in use by another FrameWriter with frames of .*16x16.*, not .*24x24"):
            FrameWriter(tmp_path, "24x24")
    with FrameWriter(tmp_path, "24x24"):
        pass
    with FrameWriter(tmp_path, "32x32") as writer:
        writer.add(frame(0))
    assert [path.name for path in tmp_path.iterdir()] == ["written-00000.h5"]


@forks
@pytest.mark.filterwarnings("ignore:.*storage without locks")
def test_on_storage_without_locks_frames_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with FrameWriter(tmp_path, "16x16") as writer:
        writer.add(frame(0))
    assert [path.name for path in tmp_path.iterdir()] == ["written-00000.h5"]


def test_an_error_in_the_loop_loses_no_frames(tmp_path: Path) -> None:
    def loop() -> None:
        with FrameWriter(tmp_path) as writer:
            writer.add(frame(1))
            raise KeyError("the game's own")

    with pytest.raises(KeyError):
        loop()
    assert Shard(tmp_path / "written-00000.h5").num_frames == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"frame": np.zeros((32, 32, 3))}, "frame must be uint8, got float64"),
        ({"frame": np.zeros((32, 32), np.uint8)}, "frame must have the shape"),
        ({"frame": np.zeros((16, 32, 3), np.uint8)}, r"shape of frame must be \(32, 32, 3\) like those before"),
        ({"action": "left"}, "action must be an integer or a vector"),
        ({"action": 0.5}, r"action must be int32 of shape \(\) like those before, got 0\.5"),
        ({"action": 2**40}, "action must be made of finite numbers of 32 bits"),
        ({"action": np.array([2**63], np.uint64)}, "action must be made of finite numbers of 32 bits"),
        ({"action": [1e300]}, "action must be made of finite numbers of 32 bits"),
        ({"action": [float("nan")]}, "action must be made of finite numbers of 32 bits"),
        ({"action": np.array([1j])}, "action must be an integer or a vector"),
        ({"action": []}, "action must be an integer or a vector"),
        ({"reward": float("nan")}, "reward must be a finite number"),
        ({"reward": None}, "reward must be a finite number"),
        ({"is_first": 2}, "is_first must be True or False, got 2"),
        ({"is_first": "no"}, "is_first must be True or False, got 'no'"),
        ({"action": [1, 0]}, r"action must be int32 of shape \(\) like those before, got \[1, 0\]"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_the_rest_kept(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    with FrameWriter(tmp_path) as writer:
        writer.add(frame(0))
        with pytest.raises(ValueError, match=told):
            writer.add(**{"frame": frame(1), "action": 1, **wrong})
        writer.add(frame(2), 2)
    assert Shard(tmp_path / "written-00000.h5").private(0, 2)[0].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"size": (64, 64)}, "size must be HEIGHTxWIDTH"),
        ({"fit": "stretch"}, "fit must be one of"),
        ({"frames_per_shard": 2.5}, r"frames_per_shard must be a positive integer, got 2\.5"),
        ({"frames_per_shard": "a"}, "frames_per_shard must be a positive integer"),
    ],
)
def test_settings_are_checked_before_the_first_frame(tmp_path: Path, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FrameWriter(tmp_path, **arguments)


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        FrameWriter(tmp_path / "file")


def test_a_wrapped_environment_is_recorded_whoever_plays_it(tmp_path: Path) -> None:
    env = RecordFrames(gym.make(NAME, length=4, render_mode="rgb_array"), FrameWriter(tmp_path, f"{SIZE[0]}x{SIZE[1]}"))
    shown, taken = [], []
    for seed in range(2):
        env.reset(seed=seed)
        for step in range(4):
            drawn: Any = env.render()
            shown.append(drawn)
            taken.append((step + seed) % 3)
            env.step(taken[-1])
    env.close()
    shard = Shard(tmp_path / "written-00000.h5")
    np.testing.assert_array_equal(shard.read(0, 8), np.stack(shown))
    assert shard.private(0, 8)[0].tolist() == taken
    assert shard.episodes.tolist() == [0, 4]
    with pytest.raises(ValueError, match="render_mode of env must be 'rgb_array', got None"):
        RecordFrames(gym.make(NAME), FrameWriter(tmp_path / "other"))


@pytest.fixture
def _played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a person hold the key d, and close the window after 20 frames."""
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    calls = []

    def press() -> list[Any]:
        calls.append(0)
        if len(calls) == 1:
            return [pygame.event.Event(pygame.KEYDOWN, key=ord("d"))]
        return [pygame.event.Event(pygame.QUIT)] if len(calls) == 20 else []

    monkeypatch.setattr(pygame.event, "get", press)


@pytest.mark.usefixtures("_played")
def test_a_person_is_recorded_in_a_window(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, env_arguments=("length=8",))
    record_in_window(config, ["d=2", "a=1"], tmp_path)
    shard = Shard(tmp_path / "written-00000.h5")
    actions = shard.private(0, shard.num_frames)[0]
    assert shard.frame_size == (24, 16)
    assert shard.num_frames > 15
    assert (actions[2:] == 2).all()
    assert np.flatnonzero(shard.episode_starts).tolist()[:2] == [0, 8]


@pytest.mark.usefixtures("_played")
@pytest.mark.parametrize(
    ("keys", "changes", "told"),
    [
        ([], {}, r"names no keys: give them by --keys"),
        (["d=7"], {}, r"keys must be KEYS=ACTION with an action of Discrete\(3\), got 'd=7'"),
        (["d"], {}, "keys must be KEYS=ACTION"),
        (["d=1.7"], {}, "keys must be KEYS=ACTION"),
        (["d=1", "d=2"], {}, "keys must be different keys, got 'd=2'"),
        (["d=1"], {"env_arguments": ("actions=dictionary",)}, "must be Discrete, MultiDiscrete, MultiBinary or Box"),
        (["=1"], {}, "keys must be KEYS=ACTION"),
        (["d=1"], {"action_repeat": 2}, "action_repeat must be 1 in a window"),
        (["d=1,1"], {"env_arguments": ("actions=continuous",)}, None),
        (["d=1"], {"env_arguments": ("actions=continuous",)}, "keys must be KEYS=ACTION with an action of Box"),
    ],
)
def test_keys_are_checked_before_the_window_opens(
    tmp_path: Path, keys: list[str], changes: dict[str, Any], told: str | None
) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    if told is None:
        record_in_window(config, keys, tmp_path)
        assert (Shard(tmp_path / "written-00000.h5").private(2, 4)[0] == 1).all()
        return
    with pytest.raises(ValueError, match=told):
        record_in_window(config, keys, tmp_path)
    assert not list(tmp_path.iterdir())
