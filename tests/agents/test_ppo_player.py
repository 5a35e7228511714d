"""PPO in the real game, and a game as a vector environment of Stable-Baselines3."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from agents.game import COINRUN, ProcgenGame
from agents.game_vec_env import GameVecEnv
from agents.player import PlayerTraining, load_trained
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import open_games
from genie_gym.players.specs import load_player
from tests.agents.small import random_frames


@pytest.fixture
def games() -> Iterator[GameVecEnv]:
    env = GameVecEnv(COINRUN, open_games(RecordConfig(mode="easy", num_levels=50), seed=0, num_envs=16))
    yield env
    env.close()


def test_episodes_end_as_sb3_expects(games: GameVecEnv) -> None:
    twin = open_games(RecordConfig(mode="easy", num_levels=50), seed=0, num_envs=16)
    before, ended, solved = games.reset(), 0, 0.0
    assert before.shape == (16, 64, 64, 3)
    player = load_player("expert")
    for _ in range(80):
        actions = player(before)
        now, rewards, dones, infos = games.step(actions)
        twin.act(actions)
        wanted = twin.observe()
        assert np.array_equal(now, wanted.frames)
        assert np.array_equal(rewards, wanted.rewards)
        assert np.array_equal(dones, wanted.episode_starts)
        for row, info in enumerate(infos):
            assert ("terminal_observation" in info) == bool(dones[row])
            if dones[row]:
                assert np.array_equal(info["terminal_observation"], before[row])
                assert not info["TimeLimit.truncated"]
        ended, solved, before = ended + int(dones.sum()), solved + float(rewards.sum()), now
    twin.close()
    assert ended > 3
    assert solved % 10 == 0


def test_long_episodes_are_truncated() -> None:
    class ShortGame(ProcgenGame):
        max_episode_steps = 5

    games = GameVecEnv(ShortGame(), COINRUN.open_games("training", num_envs=16, seed=0))
    frames, truncated, player = games.reset(), [], load_player("expert")
    for _ in range(60):
        frames, _, _, infos = games.step(player(frames))
        truncated += [info["TimeLimit.truncated"] for info in infos if info]
    games.close()
    assert any(truncated)


def test_returned_frames_do_not_change(games: GameVecEnv) -> None:
    first = games.reset()
    kept = first.copy()
    games.step(np.full(16, 7))
    assert np.array_equal(first, kept)
    assert games.get_attr("num_envs", [0, 1]) == [16, 16]
    assert games.env_is_wrapped(VecMonitor) == [False] * 16
    with pytest.raises(ValueError, match="'seed'"):
        games.env_method("seed")
    with pytest.raises(ValueError, match="'spec'"):
        games.set_attr("spec", None)


def test_training_goes_on_and_the_actor_plays(tmp_path: Path) -> None:
    settings = {"out": tmp_path, "num_envs": 4, "rollout_steps": 8, "save_every": 1}
    PlayerTraining(env_steps=32, **settings).run()  # type: ignore[arg-type]
    begun = (tmp_path / "player.safetensors").read_bytes()
    path = PlayerTraining(env_steps=96, **settings).run()  # type: ignore[arg-type]
    assert path.read_bytes() != begun
    assert PPO.load(tmp_path / "ppo.zip").num_timesteps == 96
    PlayerTraining(env_steps=960, minutes=0, **settings).run()  # type: ignore[arg-type]
    assert 96 < PPO.load(tmp_path / "ppo.zip").num_timesteps < 200
    play = load_trained(str(path))
    frames = random_frames(6)
    actions = play(frames)
    assert actions.shape == (6,)
    assert actions.dtype == np.int32
    assert set(actions) <= set(range(15))
    assert np.array_equal(load_trained(str(path))(frames), actions)
    assert list((tmp_path / "log").rglob("events*"))
    spec = f"agents/player.py:load_trained({path})"
    assert np.array_equal(load_player(spec)(frames), actions)


def test_damaged_actors_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.safetensors"):
        load_trained(str(tmp_path / "nowhere.safetensors"))
