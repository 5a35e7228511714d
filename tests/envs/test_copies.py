"""Copies and pickles of environments: they go on as the original would, and hold no weights."""

import copy
import gc
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence

from genie_gym.envs import AgreementReward, GenieEnv, GoalReward, LearnedReward, WorldHandle, zero_rewards
from genie_gym.models.reward_model import RewardModel
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.sb3 import make_sb3_vec_env
from genie_gym.serving import load_world

MAKERS: dict[str, Callable[..., Any]] = {
    "single": GenieEnv,
    "wrapped": lambda **kwargs: gym.make("Genie-v0", max_episode_steps=4, **kwargs),
    "vector": lambda **kwargs: gym.make_vec("Genie-v0", num_envs=2, max_episode_steps=4, **kwargs),
    "sb3": lambda **kwargs: make_sb3_vec_env(num_envs=2, max_episode_steps=4, **kwargs).venv,
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}


@pytest.fixture(params=MAKERS)
def env(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> Any:
    """An environment of each kind, in the middle of its first episode."""
    reward_fn = GoalReward(np.zeros((64, 64, 3), dtype=np.uint8))
    env = MAKERS[request.param](checkpoint=tiny_checkpoint, reward_fn=reward_fn, maskgit_steps=2)
    env.reset()
    play_on(env, 3)
    return env


def play_on(env: Any, steps: int = 6) -> list[Any]:
    """Return all that the next steps show, across the ends of episodes."""
    rows = getattr(env, "num_envs", None)
    return [env.step(number % 3 if rows is None else np.full(rows, number % 3)) for number in range(steps)]


def session_of(env: Any) -> Any:
    return getattr(env, "_envs", env).unwrapped._session


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_goes_on_as_the_original_would(env: Any, kind: str) -> None:
    """A copy made before the others go on is not changed by them."""
    twin, late = COPIES[kind](env), COPIES[kind](env)
    frames = session_of(env).frames
    seen = play_on(twin)
    assert np.array_equal(session_of(env).frames, frames)
    for other in (env, late):
        assert data_equivalence(play_on(other), seen, exact=True)
    assert data_equivalence(twin.reset(), late.reset(), exact=True)  # without a seed: by the generators of the copies


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_shares_the_world(env: Any, kind: str, tiny_checkpoint: Path) -> None:
    assert session_of(COPIES[kind](env)).world is load_world(tiny_checkpoint)


def test_a_pickle_holds_the_state_but_no_weights(env: Any) -> None:
    session = session_of(env)
    weights = sum(weight.numel() * weight.element_size() for weight in session.world.state_dict().values())
    beside_the_state = len(pickle.dumps(env)) - len(pickle.dumps(session._state))
    assert beside_the_state < 200_000 < weights / 2


def test_what_can_be_undone_is_copied(tiny_world: GenieWorldModel) -> None:
    from genie_gym.envs.session import Session

    session = Session(WorldHandle(tiny_world), reward_fn=zero_rewards, undo_steps=2)
    session.start([session.draw_start(np.random.default_rng(0), None)])
    first = session.frames
    for action in (1, 2):
        session.step(np.array([action]), np.array([True]))
    for kind in COPIES.values():
        twin = kind(session)
        assert twin.undo()
        assert twin.undo()
        assert not twin.undo()
        assert np.array_equal(twin.frames, first)
    assert session.undo()


def test_a_handle_is_copied_to_itself(tiny_world: GenieWorldModel) -> None:
    handle = WorldHandle(tiny_world)
    assert copy.deepcopy(handle) is copy.copy(handle) is handle
    assert pickle.loads(pickle.dumps(handle)).world is tiny_world


def test_a_world_that_this_process_still_has_needs_no_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    handle = WorldHandle(load_world(folder))
    pickled = pickle.dumps(handle)
    shutil.rmtree(folder)
    assert pickle.loads(pickled).world is handle.world


def test_a_key_does_not_outlive_its_world(make_world: Callable[[str], GenieWorldModel]) -> None:
    pickled = pickle.dumps(WorldHandle(make_world("film")))
    gc.collect()
    with pytest.raises(ValueError, match="a world in memory, which does not travel between processes"):
        pickle.loads(pickled)


def test_the_spec_of_a_copy_makes_the_environment_again(tiny_world: GenieWorldModel, play: Any) -> None:
    env = gym.make("Genie-v0", checkpoint=WorldHandle(tiny_world), reward_fn=zero_rewards, maskgit_steps=2)
    for kind in COPIES.values():
        spec = kind(env).spec
        assert spec.kwargs["checkpoint"].world is tiny_world
        assert np.array_equal(play(gym.make(spec), 0, [1]), play(env, 0, [1]))


def test_a_copied_window_opens_with_its_first_frame(tiny_world: GenieWorldModel, pygame: Any) -> None:
    env = GenieEnv(checkpoint=WorldHandle(tiny_world), render_mode="human", maskgit_steps=2)
    env.reset(seed=0)
    for kind in COPIES.values():
        twin = kind(env)
        assert twin._window._screen is None
        twin.step(1)
        assert twin._window._screen is not None
    env.close()


def test_copies_of_learned_rewards_share_the_network() -> None:
    for reward, outputs in ((LearnedReward, ("reward", "end")), (AgreementReward, ("demonstration",))):
        given = reward(RewardModel(outputs, 16, 32, channels=8))
        assert copy.deepcopy(given) is given
        read = pickle.loads(pickle.dumps(given)).reward_model
        assert all(map(torch.equal, read.state_dict().values(), given.reward_model.state_dict().values()))
