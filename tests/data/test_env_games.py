"""Recordings of Gymnasium environments: they hold what was played, and any kind of action and frame."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.env_games import find_action_space
from genie_gym.data.frames import resize
from genie_gym.data.record import record
from genie_gym.data.shards import Shard
from genie_gym.metrics.held_out import read_actions
from genie_gym.players.specs import PlayerShare, parse_shares
from genie_gym.system import lock_folder
from tests.data.square_env import SPACES

CONFIG = RecordConfig(
    env="tests.data.square_env:Square-v0", frames=60, num_envs=3, num_levels=5, start_level=7, size="24x16", seed=3
)
KINDS = [kind for kind in SPACES if kind not in {"dictionary", "long", "many", "empty"}]


def play(config: RecordConfig, out: Path, *players: str, workers: int = 1) -> list[Path]:
    shares = parse_shares(players or ["random", "sticky"], find_action_space(config))
    return record(config, shares, out, progress=False, workers=workers)


@pytest.mark.parametrize("shows", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_actions_replay_the_recorded_frames(tmp_path: Path, kind: str, shows: bool) -> None:
    """Whatever the kind of action, and whether frames are observed or rendered."""
    config = dataclasses.replace(CONFIG, env_arguments=(f"actions={kind}", f"shows={str(shows).lower()}"))
    (path,) = play(config, tmp_path)
    shard = Shard(path)
    actions, rewards = shard.private(0, 60)
    env = gym.make("tests.data.square_env:Square-v0", actions=kind, render_mode="rgb_array")
    for index in range(60):
        if shard.episode_starts[index]:
            env.reset(seed=int(shard.level_seeds[index]))
        wanted: Any = env.render()
        np.testing.assert_array_equal(shard.read(index, index + 1)[0], resize(wanted, 24, 16))
        assert 7 <= shard.level_seeds[index] < 12
        space, action = env.action_space, actions[index]
        action = int(action) if actions.ndim == 1 else action.astype(space.dtype).reshape(space.shape)
        _, reward, *_ = env.step(action)
        assert reward == rewards[index]
    assert shard.attributes["env"] == CONFIG.env
    assert shard.episode_starts.sum() > 3, "episodes must end in this test"
    assert len(np.unique(actions)) > 1
    assert actions.dtype == (np.float32 if kind in {"continuous", "number"} else np.int32)


def test_an_action_lasts_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, action_repeat=3, num_envs=1, frames=12)
    (path,) = play(config, tmp_path, "random")
    shard = Shard(path)
    assert np.flatnonzero(shard.episode_starts).tolist() == [0, 3, 6, 9]  # 7 steps: 3, 3 and the last one
    env = gym.make("tests.data.square_env:Square-v0")
    env.reset(seed=int(shard.level_seeds[0]))
    actions, rewards = shard.private(0, 12)
    steps = [env.step(int(actions[0])) for _ in range(3)]
    assert rewards[0] == sum(float(reward) for _, reward, *_ in steps)
    np.testing.assert_array_equal(shard.read(1, 2)[0], resize(steps[-1][0], 24, 16))


def test_workers_and_a_resumed_recording_write_equal_bytes(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, frames_per_shard=20)
    whole = play(config, tmp_path / "whole")
    for name, frames, workers in (("workers", 60, 2), ("resumed", 20, 1)):
        play(dataclasses.replace(config, frames=frames), tmp_path / name, workers=workers)
        for one, other in zip(whole, play(config, tmp_path / name), strict=True):
            assert one.read_bytes() == other.read_bytes()
    with pytest.raises(ValueError, match="belongs to another recording"):
        play(dataclasses.replace(config, action_repeat=2), tmp_path / "whole")


def test_players_see_observations_and_sticky_ones_keep_their_actions(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Recorder:
        def __call__(self, views: Any) -> np.ndarray:
            seen.append(views)
            return np.zeros(len(views), dtype=np.int64)

    config = dataclasses.replace(CONFIG, env_arguments=("shows=false",), frames=6)
    record(config, [PlayerShare(name="own", player=lambda seed: Recorder())], tmp_path / "own", progress=False)
    assert all(views.shape == (3, 2) and views.dtype == np.float32 for views in seen)
    long = dataclasses.replace(CONFIG, frames=300, num_envs=1)
    for player, low, high in (("sticky(0.9)", 0, 0.25), ("random", 0.5, 0.85)):
        (path,) = play(long, tmp_path / player, player)
        actions = Shard(path).private(0, 300)[0]
        assert low < np.mean(actions[1:] != actions[:-1]) < high


def test_recordings_are_clips_to_train_on(tmp_path: Path) -> None:
    play(CONFIG, tmp_path)
    dataset = ClipDataset(tmp_path, clip_length=4, height=24, width=16)
    assert dataset[0].shape == (4, 24, 16, 3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"env": "tests.data.square_env:Sqare-v0"}, r"cannot be made: .*Did you mean: `Square`"),
        ({"env": "no_such_module:Square-v0"}, r"env 'no_such_module:Square-v0' cannot be made"),
        ({"env": "tests.data.square_env:NoFrames-v0"}, r"must show RGB frames.*got observations Box.*\['human'\]"),
        ({"frames_from": "observations", "env_arguments": ("shows=false",)}, "must show RGB frames"),
        ({"env_arguments": ("grows=true",)}, r"must keep their size, got 48 x 32, then 49 x 32"),
        ({"env_arguments": ("actions=long",)}, r"must be one number or more, integers of 32 bits, got Box"),
        ({"env_arguments": ("actions=many",)}, r"must be one number or more, integers of 32 bits, got Discrete"),
        ({"env_arguments": ("actions=empty",)}, "must be one number or more"),
        ({"start_level": 2**31 - 1, "num_levels": 0}, "start_level and num_levels must be below"),
        ({"start_level": 2**31 - 3}, "start_level and num_levels must be below"),
        ({"frames": 10**14}, "RecordConfig.frames must be at most 100000 times frames_per_shard"),
        ({"env": "tests.data.square_env:Seedless-v0"}, r"Seedless-v0' failed in reset: TypeError.*seed"),
        ({"env_arguments": ("actions=dictionary",)}, r"must be Discrete, MultiDiscrete, MultiBinary or Box, got Dict"),
        ({"env_arguments": ("colour=red",)}, "cannot be made: .*colour"),
        ({"env_arguments": ("actions",)}, "env_arguments must be NAME=VALUE, got 'actions'"),
    ],
)
def test_environments_that_cannot_be_recorded_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        play(dataclasses.replace(CONFIG, **changes), tmp_path / "out")
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("init", r"cannot be made: KeyError: 'missing' \(square_env\.py"),
        ("reset", r"failed in reset: RuntimeError: boom \(square_env\.py"),
        ("step", r"failed in step: AssertionError: boom \(square_env\.py"),
        ("render", r"failed in render: OSError: boom \(square_env\.py"),
        ("old reset", "failed in reset|result of reset"),
        ("old step", "failed in step|result of step"),
        *((fault, r"reward of env '.*' must be a finite number") for fault in ("nan", "infinite", "none", "large")),
    ],
)
def test_environments_that_fail_are_told_in_one_line(tmp_path: Path, fault: str, told: str) -> None:
    arguments = (f"fault={fault}", f"shows={str(fault != 'render').lower()}")
    config = dataclasses.replace(CONFIG, env="tests.data.square_env:Faulty-v0", env_arguments=arguments)
    with pytest.raises(ValueError, match=told) as error:
        play(config, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.h5*"))


def test_two_recordings_into_one_folder_at_a_time_are_refused(tmp_path: Path) -> None:
    """Several processes may ask for a recording that is whole."""
    with lock_folder(tmp_path), pytest.raises(ValueError, match="is in use by process"):
        play(CONFIG, tmp_path)
    paths = play(CONFIG, tmp_path)
    with lock_folder(tmp_path):
        assert play(CONFIG, tmp_path) == paths


def test_a_recording_goes_on_with_the_players_file_as_it_was(tmp_path: Path) -> None:
    file, config = tmp_path / "mine.py", dataclasses.replace(CONFIG, frames_per_shard=20)
    file.write_text("import numpy as np\ndef still(space): return lambda views: np.zeros(len(views), np.int64)\n")
    play(config, tmp_path / "out", f"{file}:still")
    play(config, tmp_path / "out", f"{file}:still")
    file.write_text(file.read_text().replace("zeros", "ones"))
    with pytest.raises(ValueError, match="belongs to another recording"):
        play(dataclasses.replace(config, frames=80), tmp_path / "out", f"{file}:still")


def test_a_player_that_fails_is_told_in_one_line(tmp_path: Path) -> None:
    def fail(views: Any) -> np.ndarray:
        raise KeyError("move")

    with pytest.raises(ValueError, match=r"player 'own' failed: KeyError: 'move' \(test_env_games\.py, line"):
        record(CONFIG, [PlayerShare(name="own", player=lambda seed: fail)], tmp_path, progress=False)


@pytest.mark.parametrize(
    "changes",
    [{"game": "ninja"}, {"mode": "easy"}, {"size": "big"}, {"size": "0x10"}, {"action_repeat": 0}, {"fit": "stretch"}],
)
def test_options_that_do_not_fit_an_environment_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"RecordConfig\.{next(iter(changes))} must be|fit must be"):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"size": "32x32"}, {"episode_steps": 2}, {"fit": "pad"}, {"frames_from": "render"}, {"env_arguments": ("a=1",)}],
)
def test_options_of_environments_are_refused_for_procgen(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"left out with Procgen's games"):
        RecordConfig(**changes)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.full(3, 2**32), r"must be in Discrete\(3\), got 4294967296"),
        (np.zeros(2), r"shape of actions"),
        (np.full(3, 3), r"must be in Discrete\(3\), got 3"),
        (np.zeros(3), "integers"),
    ],
)
def test_a_player_with_invalid_actions_is_refused(tmp_path: Path, answer: np.ndarray, told: str) -> None:
    share = PlayerShare(name="own", player=lambda seed: lambda views: answer)
    with pytest.raises(ValueError, match=told):
        record(CONFIG, [share], tmp_path, progress=False)


@pytest.mark.parametrize("kind", ["continuous", "several", "binary"])
def test_metrics_of_latent_actions_refuse_actions_that_are_vectors(tmp_path: Path, kind: str) -> None:
    play(dataclasses.replace(CONFIG, env_arguments=(f"actions={kind}",)), tmp_path)
    dataset = ClipDataset(tmp_path, clip_length=4, height=24, width=16)
    with pytest.raises(ValueError, match=r"real actions must be one integer a frame .* got .* vectors of"):
        read_actions(dataset, np.arange(2))


@pytest.mark.parametrize("player", ["expert", "skilled", "search", "sticky(2)"])
def test_players_that_cannot_play_an_environment_are_refused(player: str) -> None:
    with pytest.raises(ValueError, match=r"there is no|in \[0, 1\]"):
        parse_shares([player], find_action_space(CONFIG))


def test_an_atari_game_is_recorded(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    config = RecordConfig(env="ALE/Breakout-v5", frames=24, num_envs=2, num_levels=1)
    first, second = (play(config, tmp_path / name, "random") for name in ("one", "two"))
    shard = Shard(first[0])
    assert shard.frame_size == (64, 64)
    assert first[0].read_bytes() == second[0].read_bytes()
    assert (shard.read(0, 1) != shard.read(11, 12)).any()
