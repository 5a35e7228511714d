"""Worlds in Stable-Baselines3: the same transitions as those of its own ``DummyVecEnv``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from genie_gym.envs import GenieEnv, GenieVectorEnv, WorldHandle, zero_rewards
from genie_gym.sb3 import GenieVecEnv, make_sb3_vec_env

ROWS, LIMIT = 3, 6


@pytest.fixture
def vec_env(handle: WorldHandle, episode_ends: Callable[..., Any]) -> VecMonitor:
    return make_sb3_vec_env(num_envs=ROWS, checkpoint=handle, reward_fn=episode_ends, max_episode_steps=LIMIT)


def run(vec_env: VecEnv, seed: int, steps: int) -> list[Any]:
    """Return everything an algorithm sees: frames, rewards, dones, infos of steps and of starts."""
    vec_env.seed(seed)
    seen: list[Any] = [vec_env.reset(), [dict(info) for info in vec_env.reset_infos]]
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        frames, rewards, dones, infos = vec_env.step(rng.integers(5, size=vec_env.num_envs))
        seen += [frames, rewards, dones, [dict(info) for info in infos], [dict(info) for info in vec_env.reset_infos]]
    return seen


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@pytest.mark.parametrize("seed", [0, 11])
def test_it_equals_a_dummy_vec_env_of_single_environments(
    handle: WorldHandle, episode_ends: Callable[..., Any], seed: int
) -> None:
    def single() -> gym.Env:
        return TimeLimit(GenieEnv(checkpoint=handle, reward_fn=episode_ends), LIMIT)

    batched = make_sb3_vec_env(num_envs=ROWS, checkpoint=handle, reward_fn=episode_ends, max_episode_steps=LIMIT)
    ours, theirs = run(batched.venv, seed, 40), run(DummyVecEnv([single] * ROWS), seed, 40)
    assert same(ours, theirs)
    infos = [info for part in ours[5::5] for info in part if "terminal_observation" in info]
    assert {info["TimeLimit.truncated"] for info in infos} == {True, False}
    assert not same(run(batched.venv, seed + 1, 40), theirs)


def test_returned_frames_do_not_change_later(vec_env: VecMonitor) -> None:
    first = vec_env.reset()
    before = first.copy()
    vec_env.step(np.zeros(ROWS, dtype=np.int64))
    assert np.array_equal(first, before)


def test_sb3_checks_the_single_environment(handle: WorldHandle) -> None:
    check_env(gym.make("Genie-v0", checkpoint=handle, reward_fn=zero_rewards))


@pytest.mark.parametrize(
    ("algorithm", "policy", "settings"),
    [
        (PPO, "MlpPolicy", {"n_steps": 8, "batch_size": 8}),
        (A2C, "MlpPolicy", {}),
        (DQN, "MlpPolicy", {"learning_starts": 8, "buffer_size": 64}),
        (RecurrentPPO, "MlpLstmPolicy", {"n_steps": 8, "batch_size": 8}),
    ],
)
def test_algorithms_run_in_it(vec_env: VecMonitor, algorithm: Any, policy: str, settings: dict[str, Any]) -> None:
    """Algorithms run with the usual wrappers, which log the returns of ended episodes."""
    wrapped: VecEnv = VecFrameStack(vec_env, 2)
    if algorithm is not DQN:  # which asks VecNormalize for pictures as they were before SB3 transposed them
        wrapped = VecNormalize(wrapped, norm_obs=False)
    model = algorithm(policy, wrapped, seed=0, **settings).learn(64)
    assert model.num_timesteps >= 64
    assert np.isfinite([episode["r"] for episode in model.ep_info_buffer]).all()
    assert len(model.ep_info_buffer) > 0
    assert {episode["l"] <= LIMIT for episode in model.ep_info_buffer} == {True}
    assert wrapped.action_space.contains(int(model.predict(wrapped.reset())[0][0]))


def test_the_same_seed_trains_the_same_agent(handle: WorldHandle, episode_ends: Callable[..., Any]) -> None:
    def train() -> np.ndarray:
        keywords: dict[str, Any] = {"checkpoint": handle, "reward_fn": episode_ends, "max_episode_steps": LIMIT}
        model = PPO("MlpPolicy", make_sb3_vec_env(num_envs=2, seed=4, **keywords), n_steps=8, batch_size=8, seed=0)
        return np.concatenate([each.detach().flatten().numpy() for each in model.learn(32).policy.parameters()])

    assert np.array_equal(train(), train())


def test_options_and_seeds_apply_to_one_reset(vec_env: VecMonitor, prompt_image: np.ndarray) -> None:
    vec_env.set_options({"prompt": prompt_image})
    vec_env.seed(5)
    assert np.array_equal(vec_env.reset(), np.stack([prompt_image] * ROWS))
    assert [info["prompt_index"] for info in vec_env.venv.reset_infos] == [-1] * ROWS
    vec_env.reset()
    assert -1 not in [info["prompt_index"] for info in vec_env.venv.reset_infos]


def test_attributes_methods_and_images(handle: WorldHandle) -> None:
    handle.world.config.action_names = ()  # type: ignore[misc]
    keywords: dict[str, Any] = {"checkpoint": handle, "reward_fn": zero_rewards}
    vec_env = make_sb3_vec_env(num_envs=2, render_mode="rgb_array", **keywords)
    frames = vec_env.reset()
    assert [np.array_equal(*pair) for pair in zip(vec_env.get_images(), frames, strict=True)] == [True, True]
    assert vec_env.render().shape[-1] == 3
    assert vec_env.env_method("get_action_meanings", indices=0) == [list("01234")]
    assert vec_env.get_attr("max_episode_steps") == [1000, 1000]
    vec_env.set_attr("max_episode_steps", 2)
    vec_env.step(np.zeros(2, dtype=np.int64))
    assert vec_env.step(np.zeros(2, dtype=np.int64))[2].all()
    assert vec_env.env_is_wrapped(TimeLimit) == [False, False]
    vec_env.close()
    assert make_sb3_vec_env(num_envs=2, **keywords).venv.get_images() == [None, None]


def test_episodes_are_written_to_a_file(tmp_path: Path, handle: WorldHandle) -> None:
    path = tmp_path / "episodes.monitor.csv"
    vec_env = make_sb3_vec_env(
        num_envs=2, checkpoint=handle, reward_fn=zero_rewards, max_episode_steps=3, monitor_file=str(path)
    )
    vec_env.reset()
    for _ in range(6):
        vec_env.step(np.zeros(2, dtype=np.int64))
    vec_env.close()
    assert len(path.read_text().splitlines()) == 2 + 4  # two lines of head, two episodes a row


def test_invalid_use_is_refused(vec_env: VecMonitor, handle: WorldHandle, prompt_image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="envs must have autoreset_mode SameStep, got NextStep"):
        GenieVecEnv(GenieVectorEnv(checkpoint=handle, reward_fn=zero_rewards))
    with pytest.raises(ValueError, match="envs must have autoreset_mode SameStep, got Disabled"):
        make_sb3_vec_env(checkpoint=handle, reward_fn=zero_rewards, autoreset_mode="Disabled")
    with pytest.raises(ValueError, match="env_id must name an environment of genie-gym, got 'CartPole-v1'"):
        make_sb3_vec_env("CartPole-v1")
    with pytest.raises(ValueError, match=r"method must be one of .* got 'reset'"):
        vec_env.env_method("reset")
    with pytest.raises(ValueError, match="indices must be all 3 rows, which share 'max_episode_steps'"):
        vec_env.set_attr("max_episode_steps", 2, indices=[0])
    vec_env.set_options([{"prompt": prompt_image}, {}, {}])
    with pytest.raises(ValueError, match="options must have a prompt for every row, or a state for every row"):
        vec_env.reset()
    vec_env.set_options({"promt": prompt_image})
    with pytest.raises(ValueError, match=r"options of reset must be among \['prompt', 'state'\], got \['promt'\]"):
        vec_env.reset()
    with pytest.raises(ValueError, match="latent actions"):
        vec_env.step(np.full(ROWS, 5))
    envs = make_sb3_vec_env(checkpoint=handle, reward_fn=lambda *frames: np.full(1, np.nan))
    envs.reset()
    with pytest.raises(ValueError, match="reward_fn must return finite rewards"):
        envs.step(np.zeros(1, dtype=np.int64))


def test_the_id_may_name_the_module(handle: WorldHandle) -> None:
    """As it must where other processes make the environment."""
    vec_env = make_sb3_vec_env("genie_gym:Genie-v0", 2, checkpoint=handle, reward_fn=zero_rewards)
    assert vec_env.reset().shape[0] == 2


def test_a_row_has_the_spaces_of_a_single_environment(vec_env: VecMonitor, handle: WorldHandle) -> None:
    single = GenieEnv(checkpoint=handle, reward_fn=zero_rewards)
    for name in ("action_space", "observation_space"):
        assert vec_env.get_attr(name) == [getattr(single, name)] * ROWS
    assert vec_env.get_attr("np_random_seed", indices=[1]) == [vec_env.venv._envs.np_random_seed[1]]


@pytest.mark.parametrize("name", ["num_envs", "n_envs"])
def test_the_number_of_rows_has_two_names(handle: WorldHandle, name: str) -> None:
    keywords: dict[str, Any] = {"checkpoint": handle, "reward_fn": zero_rewards}
    assert make_sb3_vec_env(**{name: 2}, **keywords).num_envs == 2
    assert make_sb3_vec_env(num_envs=2, n_envs=2, **keywords).num_envs == 2
    with pytest.raises(ValueError, match="n_envs must be left out, or num_envs=2, got 3"):
        make_sb3_vec_env(num_envs=2, n_envs=3, **keywords)
    for bad in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match="num_envs must be a positive integer"):
            make_sb3_vec_env(**{name: bad}, **keywords)


def test_single_environments_can_be_wrapped(handle: WorldHandle, episode_ends: Callable[..., Any]) -> None:
    """By any wrapper; what the algorithm sees is what it sees without, but for the wrapper."""
    keywords: dict[str, Any] = {"checkpoint": handle, "reward_fn": episode_ends, "max_episode_steps": LIMIT}
    plain = make_sb3_vec_env(n_envs=2, **keywords)
    same_frames = make_sb3_vec_env(n_envs=2, wrapper_class=gym.wrappers.OrderEnforcing, **keywords)
    assert same(run(plain.venv, 3, 20), run(same_frames.venv, 3, 20))
    wrapped = make_sb3_vec_env(
        n_envs=2,
        seed=3,
        wrapper_class=gym.wrappers.GrayscaleObservation,
        wrapper_kwargs={"keep_dim": True},
        **keywords,
    )
    assert wrapped.reset().shape == (2, 8, 12, 1)
    assert wrapped.env_is_wrapped(gym.wrappers.GrayscaleObservation) == [True, True]
    PPO("MlpPolicy", wrapped, n_steps=8, batch_size=8, seed=0).learn(16)
    with pytest.raises(ValueError, match="wrapper_class must be a wrapper of single environments, got 'x'"):
        make_sb3_vec_env(wrapper_class="x", **keywords)
    with pytest.raises(ValueError, match="wrapper_kwargs must be left out without wrapper_class"):
        make_sb3_vec_env(wrapper_kwargs={"keep_dim": True}, **keywords)
