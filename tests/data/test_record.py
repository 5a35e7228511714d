"""Tests that recordings hold what was played and can be replayed."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from genie_gym.data import record as record_module
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import open_games
from genie_gym.data.record import record
from genie_gym.data.shards import Shard
from genie_gym.players.specs import Player, PlayerShare, parse_share

PLAYERS = [parse_share("sticky=3"), parse_share("random")]


def _share(player: Player, **fields: object) -> PlayerShare:
    return PlayerShare(name="test", player=lambda seed: player, **fields)  # type: ignore[arg-type]


def test_shards_follow_the_config(recorded: Path, small_config: RecordConfig) -> None:
    shards = [Shard(path) for path in sorted(recorded.iterdir())]
    assert [shard.path.name for shard in shards] == [f"shard-0000{index}.h5" for index in range(3)]
    assert [shard.num_frames for shard in shards] == [300, 300, 100]
    for shard in shards:
        assert shard.level_seeds.min() >= 7
        assert shard.level_seeds.max() < 57
        assert shard.players == ["sticky", "random"]
        assert shard.attributes["mode"] == "hard"
        assert np.mean(shard.player == 0) == 0.75
        assert shard.episode_starts[:: shard.num_frames // small_config.num_envs].all()
        changes = np.flatnonzero(np.diff(shard.level_seeds)) + 1
        assert shard.episode_starts[changes].all()
    first = [shard.read(0, 1) for shard in shards]
    assert (first[0] != first[1]).any()


def test_recorded_actions_replay_the_recorded_frames(tmp_path: Path) -> None:
    """In a game with short episodes, the recorded actions reproduce frames, starts, levels and rewards."""
    config = RecordConfig(frames=600, num_envs=2, mode="easy", num_levels=3, seed=1)
    (path,) = record(config, [parse_share("sticky(0.9, 0.9)")], tmp_path, progress=False)
    shard, half = Shard(path), 300
    actions, rewards = shard.private(0, 600)
    seed = int(np.random.SeedSequence([1, 0, 0]).generate_state(1)[0] >> 1)
    games = open_games(config, seed=seed, num_envs=2)
    starts = 0
    for t in range(half):
        now, rows = games.observe(), [t, half + t]
        np.testing.assert_array_equal(now.frames, np.concatenate([shard.read(row, row + 1) for row in rows]))
        np.testing.assert_array_equal(now.level_seeds, shard.level_seeds[rows])
        np.testing.assert_array_equal(now.episode_starts, shard.episode_starts[rows])
        starts += int(now.episode_starts.sum())
        games.act(actions[rows])
        np.testing.assert_array_equal(games.observe().rewards, rewards[rows])
    assert starts > 4, "episodes must end in this test"
    ends = np.append(shard.episode_starts[1:], True)
    assert rewards.max() == 10
    assert ends[rewards > 0].all(), "a coin ends its episode"


def test_the_same_seed_records_the_same_bytes(recorded: Path, small_config: RecordConfig, tmp_path: Path) -> None:
    for path in record(small_config, PLAYERS, tmp_path, progress=False):
        assert path.read_bytes() == (recorded / path.name).read_bytes()


def test_workers_record_the_same(recorded: Path, small_config: RecordConfig, tmp_path: Path) -> None:
    paths = record(small_config, PLAYERS, tmp_path, progress=False, workers=2)
    for path in paths:
        assert path.read_bytes() == (recorded / path.name).read_bytes()


def test_another_seed_records_other_frames(recorded: Path, small_config: RecordConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(small_config, seed=4, frames=100)
    (path,) = record(config, PLAYERS, tmp_path, progress=False)
    assert (Shard(path).read(0, 25) != Shard(recorded / path.name).read(0, 25)).any()


def test_an_interrupted_recording_resumes(
    recorded: Path, small_config: RecordConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, write = itertools.count(), record_module.write_shard

    def fail_second(*args: object) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(record_module, "write_shard", fail_second)
    with pytest.raises(KeyboardInterrupt):
        record(small_config, PLAYERS, tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.h5"]
    kept = (tmp_path / "shard-00000.h5").stat().st_mtime_ns
    for path in record(small_config, PLAYERS, tmp_path, progress=False):
        assert path.read_bytes() == (recorded / path.name).read_bytes()
    assert (tmp_path / "shard-00000.h5").stat().st_mtime_ns == kept


def test_a_recording_can_grow_but_not_change(recorded: Path, small_config: RecordConfig, tmp_path: Path) -> None:
    record(dataclasses.replace(small_config, frames=320), PLAYERS, tmp_path, progress=False)
    for path in record(small_config, PLAYERS, tmp_path, progress=False):
        assert path.read_bytes() == (recorded / path.name).read_bytes()
    changed = [
        dataclasses.replace(small_config, **change) for change in ({"seed": 9}, {"frames": 320}, {"mode": "easy"})
    ]
    for config, players in [*((config, PLAYERS) for config in changed), (small_config, PLAYERS[:1])]:
        with pytest.raises(ValueError, match="another recording"):
            record(config, players, tmp_path, progress=False)


def test_players_that_see_velocity_leave_no_trace(tmp_path: Path) -> None:
    """The player sees the velocity square, but the recorded frames are those without it."""
    shown: list[np.ndarray] = []

    def go_right(frames: np.ndarray) -> np.ndarray:
        shown.append(frames.copy())
        return np.full(len(frames), 8, np.int32)

    config = RecordConfig(frames=80, num_envs=2)
    paths = [
        record(config, [_share(go_right, sees_velocity=sees)], tmp_path / str(sees), progress=False)[0]
        for sees in (True, False)
    ]
    with_square, without = Shard(paths[0]).read(0, 80), Shard(paths[1]).read(0, 80)
    np.testing.assert_array_equal(with_square, without)
    np.testing.assert_array_equal(np.stack(shown[40:], 1).reshape(with_square.shape), without)
    different = (np.stack(shown[:40], 1).reshape(with_square.shape) != without).any(-1)
    assert different.any()
    assert not different[:, 16:].any()
    assert not different[:, :, 32:].any()


@pytest.mark.parametrize(
    ("actions", "message"),
    [(np.zeros(3, np.int32), "shape"), (np.zeros(2), "integers"), (np.full(2, 15), "must be in")],
)
def test_wrong_actions_name_the_player(tmp_path: Path, actions: np.ndarray, message: str) -> None:
    config = RecordConfig(frames=8, num_envs=2)
    with pytest.raises(ValueError, match=rf"player 'test' must.*{message}|player 'test' {message}"):
        record(config, [_share(lambda frames: actions)], tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    config = RecordConfig(frames=8, num_envs=1)
    for players in ([], PLAYERS):
        with pytest.raises(ValueError, match="players must be"):
            record(config, players, tmp_path / "none", progress=False)
    with pytest.raises(ValueError, match="seed must be"):
        record(dataclasses.replace(config, seed=-1), PLAYERS[:1], tmp_path / "none", progress=False)
    with pytest.raises(ValueError, match="workers positive"):
        record(config, PLAYERS[:1], tmp_path / "none", progress=False, workers=0)
    assert not (tmp_path / "none").exists()
    (tmp_path / "shard-00000.h5").write_text("cut off")
    with pytest.raises(ValueError, match=r"shard-00000.h5"):
        record(config, PLAYERS[:1], tmp_path, progress=False)


@pytest.mark.parametrize(("weights", "games"), [((1, 1), [2, 2]), ((3, 1), [3, 1]), ((99, 1), [3, 1]), ((1,), [4])])
def test_games_are_split_by_weight(weights: tuple[float, ...], games: list[int]) -> None:
    shares = [_share(lambda frames: frames, weight=weight) for weight in weights]
    assert record_module._split_games(4, shares) == games
