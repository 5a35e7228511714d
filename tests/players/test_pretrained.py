"""The shipped agents by name, with the ``predict`` that loops made for Stable-Baselines3's models call."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import genie_gym
from agents.game import make_game
from agents.game_vec_env import GameVecEnv
from genie_gym.players.specs import load_player

NAMES = ("skilled", "expert")
FRAMES = np.random.default_rng(0).integers(256, size=(60, 64, 64, 3), dtype=np.uint8)


def test_every_shipped_network_has_a_name() -> None:
    files = (Path(genie_gym.__file__).parent / "weights" / "players").glob("*.safetensors")
    assert set(genie_gym.list_agents()) == {path.stem for path in files} == set(NAMES)
    assert all(genie_gym.list_agents().values())


@pytest.mark.parametrize("name", NAMES)
def test_predict_is_that_of_the_players(name: str) -> None:
    agent = genie_gym.load_agent(name, seed=3)
    actions, state = agent.predict(FRAMES)
    assert state is None
    assert actions.dtype == np.int64
    assert actions.tolist() == load_player(name, 3)(FRAMES).tolist()
    assert all(agent.action_space.contains(action) for action in actions)
    assert agent.observation_space.contains(FRAMES[0])
    assert actions.tolist() != genie_gym.load_agent(name, seed=4).predict(FRAMES)[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_actions_are_the_likeliest(name: str) -> None:
    agent = genie_gym.load_agent(name)
    first, second = (agent.predict(FRAMES, deterministic=True)[0].tolist() for _ in range(2))
    assert first == second == genie_gym.load_agent(name, 9, temperature=0).predict(FRAMES)[0].tolist()
    assert first == [int(agent.predict(frame, deterministic=True)[0]) for frame in FRAMES]
    assert first != agent.predict(FRAMES)[0].tolist()


def test_one_frame_has_one_action_and_the_state_comes_back() -> None:
    state = (np.zeros(2),)
    action, same = genie_gym.load_agent("skilled").predict(FRAMES[0], state, np.array([True]), deterministic=True)
    assert action.shape == ()
    assert same is state


def test_a_loop_of_stable_baselines_plays_it() -> None:
    game, number = make_game("easy"), 8
    envs = VecMonitor(GameVecEnv(game, game.open_games("validation", number, 3, paint_velocity=True)))
    agent = genie_gym.load_agent("skilled")
    found, lengths = evaluate_policy(agent, envs, number, deterministic=False, return_episode_rewards=True)
    envs.close()
    assert len(found) == len(lengths) == number
    assert np.mean(found) >= 5, "10 for each level solved; a random player solves a quarter of easy levels"


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("skiled", "skilled"),
        ("Expert", "expert"),
        ("experts", "expert"),
        ("", "skilled or expert"),
        ("x", "skilled or"),
    ],
)
def test_unknown_names_get_a_suggestion(name: str, suggested: str) -> None:
    with pytest.raises(ValueError, match=f"there is no agent '{name}'; did you mean {suggested}"):
        genie_gym.load_agent(name)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros((64, 64, 3)), "observation must be uint8, got float64"),
        (np.zeros((3, 64, 64), np.uint8), "observation must have the shape"),
        (np.zeros((2, 3, 64, 64), np.uint8), "observation must have the shape"),
        (np.zeros((32, 64, 3), np.uint8), r"observation must have the shape \(64, 64, 3\).* got \(32, 64, 3\)"),
        (np.zeros((2, 2, 64, 64, 3), np.uint8), r"observation must have the shape .* got \(2, 2, 64, 64, 3\)"),
        ([[0]], "observation must be an array or tensor, got list"),
    ],
)
def test_other_observations_are_refused(observation: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        genie_gym.load_agent("skilled").predict(observation)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"temperature must be 0 or more, got -1"):
        genie_gym.load_agent("skilled", temperature=-1)
