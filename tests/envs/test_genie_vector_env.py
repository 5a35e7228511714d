"""The vector environment against Gymnasium's vector of single environments, in every autoreset mode."""

import dataclasses
import itertools
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.utils.passive_env_checker import data_shares_objects
from gymnasium.vector import AutoresetMode

from genie_gym.envs import GenieEnv, GenieVectorEnv, WorldHandle

MODES = list(AutoresetMode)
ROWS = 3


def check_vector_step(envs: gym.vector.VectorEnv, step: tuple[Any, ...]) -> None:
    """Check types, shapes and spaces of one step, as Gymnasium has no checker for vector environments."""
    observations, rewards, terminations, truncations, infos = step
    assert observations in envs.observation_space
    for values, dtype in ((rewards, np.float64), (terminations, np.bool_), (truncations, np.bool_)):
        assert values.shape == (envs.num_envs,)
        assert values.dtype == dtype
    for key, values in infos.items():
        assert key.startswith("_") or infos[f"_{key}"].dtype == bool
        assert isinstance(values, dict) or len(values) == envs.num_envs


def reset_ended(envs: gym.vector.VectorEnv, step: tuple[Any, ...]) -> tuple[Any, ...] | None:
    ended = step[2] | step[3]
    return envs.reset(options={"reset_mask": ended}) if ended.any() else None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [2, 4, 1000])
def test_it_equals_gymnasiums_vector_of_single_environments(
    handle: WorldHandle, episode_ends: Any, mode: Any, limit: int
) -> None:
    kwargs: dict[str, Any] = {"checkpoint": handle, "reward_fn": episode_ends, "max_episode_steps": limit}
    envs = gym.make_vec("Genie-v0", num_envs=ROWS, autoreset_mode=mode, **kwargs)
    singles = gym.make_vec(
        "Genie-v0", ROWS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **kwargs
    )
    assert envs.metadata["autoreset_mode"] is mode
    assert (envs.observation_space, envs.action_space) == (singles.observation_space, singles.action_space)
    assert data_equivalence(envs.reset(seed=11), singles.reset(seed=11), exact=True)
    envs.action_space.seed(0)
    steps, ends = [], 0
    for _ in range(25):
        actions = envs.action_space.sample()
        step = envs.step(actions)
        check_vector_step(envs, step)
        assert data_equivalence(step, singles.step(actions), exact=True)
        steps.append(step)
        ends += int((step[2] | step[3]).sum())
        if mode is AutoresetMode.DISABLED:
            assert data_equivalence(reset_ended(envs, step), reset_ended(singles, step), exact=True)
    assert ends >= 6, "episodes should end in the middle"
    assert not any(data_shares_objects(one, other) for one, other in itertools.combinations(steps, 2))


@pytest.mark.parametrize("seed", [5, [9, None, 3], (1, 2, 3), np.array([1, 2, 3])])
def test_a_row_equals_a_single_environment(handle: WorldHandle, seed: Any, play: Any) -> None:
    envs = GenieVectorEnv(ROWS, checkpoint=handle)
    envs.reset(seed=[4, 4, 4])
    actions = np.array([[0, 1, 2], [3, 4, 0]])
    frames = np.stack([envs.reset(seed=seed)[0], *(envs.step(row)[0] for row in actions)], axis=1)
    for row, row_seed in enumerate([5, 6, 7] if isinstance(seed, int) else seed):
        if row_seed is not None:
            single = play(GenieEnv(checkpoint=handle), int(row_seed), actions[:, row].tolist())
            assert np.array_equal(frames[row], single)


def test_all_rows_step_in_one_pass(handle: WorldHandle, stub_world: Any) -> None:
    envs = GenieVectorEnv(16, checkpoint=handle)
    envs.reset(seed=0)
    for _ in range(5):
        envs.step(np.zeros(16, dtype=np.int64))
    assert stub_world.calls == {"begin": 1, "advance": 5, "show": 6}


def test_restarting_all_rows_takes_no_step(handle: WorldHandle, stub_world: Any) -> None:
    envs = GenieVectorEnv(4, checkpoint=handle, max_episode_steps=2)
    envs.reset(seed=0)
    for _ in range(6):
        envs.step(np.zeros(4, dtype=np.int64))
    assert stub_world.calls == {"begin": 3, "advance": 4, "show": 7}


def test_an_unseeded_reset_draws_new_starts(handle: WorldHandle) -> None:
    envs = GenieVectorEnv(ROWS, checkpoint=handle)
    seeds = [tuple(envs.reset(seed=0)[1]["world_seed"]), *(tuple(envs.reset()[1]["world_seed"]) for _ in range(3))]
    again = [tuple(envs.reset(seed=0)[1]["world_seed"]), *(tuple(envs.reset()[1]["world_seed"]) for _ in range(3))]
    assert seeds == again
    assert len({seed for row in seeds for seed in row}) == 4 * ROWS
    assert envs.np_random_seed == (0, 1, 2)
    assert len(envs.np_random) == ROWS


def test_each_row_may_have_its_own_prompt(handle: WorldHandle, prompt_image: np.ndarray, play: Any) -> None:
    """Prompts may also differ in length; the world then takes them in separate calls."""
    prompts = [prompt_image, None, [prompt_image // 2, prompt_image], [prompt_image // 3, prompt_image]]
    envs = GenieVectorEnv(4, prompts=prompts, checkpoint=handle)
    observations, infos = envs.reset(seed=0)
    assert (infos["prompt_index"] >= 0).tolist() == [False, True, False, False]
    frames = np.stack([observations, envs.step(np.array([1, 2, 3, 4]))[0]], axis=1)
    for row, prompt in enumerate(prompts):
        assert np.array_equal(frames[row], play(GenieEnv(prompt, checkpoint=handle), row, [row + 1]))


def test_prompts_of_a_reset_apply_to_those_episodes_only(handle: WorldHandle, prompt_image: np.ndarray) -> None:
    envs = GenieVectorEnv(2, prompt_image, checkpoint=handle, max_episode_steps=1)
    grey = np.full((8, 12, 3), 9, np.uint8)
    assert np.array_equal(envs.reset(seed=0)[0], np.stack([prompt_image] * 2))
    assert (envs.reset(options={"prompt": grey})[0] == 9).all()
    assert np.array_equal(envs.reset(options={"prompts": [grey, prompt_image]})[0], np.stack([grey, prompt_image]))
    assert (envs.reset(options={"prompt": None})[1]["prompt_index"] >= 0).all()
    envs.step(np.zeros(2, dtype=np.int64))
    assert np.array_equal(envs.step(np.zeros(2, dtype=np.int64))[0], np.stack([prompt_image] * 2))


@pytest.mark.parametrize("mode", MODES)
def test_a_mask_restarts_the_rows_it_selects(handle: WorldHandle, mode: AutoresetMode) -> None:
    envs = GenieVectorEnv(ROWS, checkpoint=handle, autoreset_mode=mode)
    envs.reset(seed=0)
    before = envs.step(np.array([1, 2, 3]))[0]
    options = {"reset_mask": np.array([False, True, False])}
    observations, infos = envs.reset(seed=[7, 8, 9], options=options)
    assert list(options) == ["reset_mask"], "the caller's options are left alone"
    assert infos["_world_seed"].tolist() == [False, True, False]
    assert np.array_equal(observations[[0, 2]], before[[0, 2]])
    single = GenieEnv(checkpoint=handle)
    assert np.array_equal(observations[1], single.reset(seed=8)[0])
    assert np.array_equal(envs.step(np.array([0, 4, 0]))[0][1], single.step(np.int64(4))[0])
    assert envs.np_random_seed == (0, 8, 2)


def test_ended_rows_must_be_restarted_if_autoreset_is_disabled(handle: WorldHandle) -> None:
    envs = GenieVectorEnv(2, checkpoint=handle, max_episode_steps=1, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step(np.zeros(2, dtype=np.int64))
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"restart the ended rows \[1\] before step"):
        envs.step(np.zeros(2, dtype=np.int64))


def test_only_rows_that_play_are_rewarded(handle: WorldHandle) -> None:
    sizes: list[int] = []

    def reward(previous: np.ndarray, actions: np.ndarray, frames: np.ndarray) -> Any:
        sizes.append(len(frames))
        return np.ones(len(frames)), actions == 4

    envs = GenieVectorEnv(ROWS, checkpoint=handle, reward_fn=reward)
    envs.reset(seed=0)
    rewards = [envs.step(np.array(row))[1].tolist() for row in ([4, 0, 0], [4, 4, 4], [0, 0, 0], [4, 4, 4])]
    assert sizes == [3, 2, 1, 3]
    assert rewards == [[1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]]


def test_frames_are_rendered_by_row(handle: WorldHandle) -> None:
    envs = GenieVectorEnv(2, checkpoint=handle, render_mode="rgb_array")
    observations, _ = envs.reset(seed=0)
    frames = envs.render()
    assert frames is not None
    assert np.array_equal(np.stack(frames), observations)
    assert GenieVectorEnv(2, checkpoint=handle).render() is None


@pytest.mark.parametrize("names", [(), ("left", "right", "jump", "still", "e", "f", "g", "h")])
def test_actions_have_meanings(make_world: Any, names: tuple[str, ...]) -> None:
    """Actions have the world's names, or numbers, under the method name of Atari environments."""
    world = make_world("additive")
    world.config = dataclasses.replace(world.config, action_names=names)
    meanings = GenieVectorEnv(2, checkpoint=WorldHandle(world)).get_action_meanings()
    assert meanings == GenieEnv(checkpoint=WorldHandle(world)).get_action_meanings()
    assert meanings == (list(names) or ["0", "1", "2", "3", "4", "5", "6", "7"])


def test_closing_twice_is_allowed(handle: WorldHandle) -> None:
    envs = GenieVectorEnv(2, checkpoint=handle)
    envs.reset(seed=0)
    envs.close()
    envs.close()
    with pytest.raises(ResetNeeded, match=r"after close\(\)"):
        envs.step(np.zeros(2, dtype=np.int64))


def test_gymnasiums_wrappers_and_benchmark_accept_it(handle: WorldHandle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec("Genie-v0", num_envs=2, checkpoint=handle, max_episode_steps=3)
        wrapped = gym.wrappers.vector.RecordEpisodeStatistics(envs)
        wrapped.reset(seed=0)
        for _ in range(3):
            *_, infos = wrapped.step(np.zeros(2, dtype=np.int64))
        assert infos["episode"]["l"].tolist() == [3, 3]


@pytest.mark.parametrize(
    "actions",
    [
        np.array([0, 5, 0]),
        np.array([0, -1, 0]),
        np.array([0, 1]),
        np.array([[0, 1, 2]]),
        np.array([0.0, 1.0, 2.0]),
        np.array([True, False, True]),
        3,
        None,
        ["a", "b", "c"],
    ],
)
def test_invalid_actions_are_refused(handle: WorldHandle, actions: Any) -> None:
    envs = GenieVectorEnv(ROWS, checkpoint=handle)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"latent actions must be .*got "):
        envs.step(actions)


def test_steps_before_a_reset_are_refused(handle: WorldHandle) -> None:
    envs = GenieVectorEnv(ROWS, checkpoint=handle, render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros(ROWS, dtype=np.int64))
    with pytest.raises(ResetNeeded):
        envs.render()
    with pytest.raises(ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False, True])})


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_envs": 0}, ["num_envs", "0"]),
        ({"num_envs": 1.5}, ["num_envs", "1.5"]),
        ({"max_episode_steps": 0}, ["max_episode_steps", "0"]),
        ({"max_episode_steps": -2}, ["max_episode_steps", "-2"]),
        ({"max_episode_steps": 2.5}, ["max_episode_steps", "2.5"]),
        ({"autoreset_mode": "sometimes"}, ["autoreset_mode", "NextStep", "'sometimes'"]),
        ({"render_mode": "human"}, ["render_mode", "rgb_array", "'human'"]),
        ({"prompts": [None]}, ["prompts", "num_envs=3", "[None]"]),
        ({"prompts": "a.png"}, ["prompts", "num_envs=3", "'a.png'"]),
        ({"prompts": [None, None, 3]}, ["prompts[2]", "3"]),
        ({"prompt": np.zeros((2, 2)), "prompts": [None] * 3}, ["prompt and prompts"]),
    ],
)
def test_invalid_arguments_are_refused(handle: WorldHandle, kwargs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        GenieVectorEnv(**{"num_envs": ROWS, "checkpoint": handle, **kwargs})
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"seed": [1, 2]}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": "abc"}, "seed"),
        ({"seed": [1, 2.5, 3]}, "seed"),
        ({"options": {"reset_mask": np.array([True])}}, "reset_mask"),
        ({"options": {"reset_mask": np.zeros(3, dtype=bool)}}, "reset_mask"),
        ({"options": {"reset_mask": np.array([1, 0, 1])}}, "reset_mask"),
        ({"options": {"prompts": [None]}}, "prompts"),
        ({"options": {"mask": 1}}, "mask"),
    ],
)
def test_a_refused_reset_leaves_no_trace(handle: WorldHandle, kwargs: dict[str, Any], word: str) -> None:
    envs = GenieVectorEnv(ROWS, checkpoint=handle)
    envs.reset(seed=0)
    expected = envs.reset()[0]
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=word):
        envs.reset(**kwargs)
    assert np.array_equal(envs.reset()[0], expected)


def test_rows_have_the_attributes_and_methods_of_single_environments(handle: WorldHandle) -> None:
    """As in Gymnasium's own vector of them."""
    handle.world.config.action_names = ()  # type: ignore[misc]
    keywords: dict[str, Any] = {"checkpoint": handle, "render_mode": "rgb_array"}
    envs = gym.make_vec("Genie-v0", num_envs=2, **keywords)
    singles = gym.make_vec("Genie-v0", num_envs=2, vectorization_mode="sync", **keywords)
    for each in (envs, singles):
        each.reset(seed=5)
        each.step(np.array([1, 2]))
    for name in ("action_space", "observation_space", "render_mode", "np_random_seed"):
        assert envs.get_attr(name) == envs.call(name) == singles.get_attr(name), name
    for name in ("get_action_meanings", "get_keys_to_action"):
        assert envs.call(name) == singles.call(name)
    assert data_equivalence(envs.call("render"), singles.call("render"), exact=True)
    assert [each.integers(9**9) for each in envs.get_attr("np_random")] == [
        each.integers(9**9) for each in singles.get_attr("np_random")
    ]
    with pytest.raises(AttributeError, match="no_such"):
        envs.get_attr("no_such")


def test_attributes_are_set_for_all_rows(handle: WorldHandle) -> None:
    envs = gym.make_vec("Genie-v0", num_envs=2, checkpoint=handle)
    for values in (2, [2, 2], (2, 2)):
        envs.set_attr("max_episode_steps", values)
        assert envs.get_attr("max_episode_steps") == (2, 2)
    envs.reset(seed=0)
    assert not envs.step(np.zeros(2, dtype=np.int64))[3].any()
    assert envs.step(np.zeros(2, dtype=np.int64))[3].all()
    envs.set_attr("max_episode_steps", -1)
    assert envs.max_episode_steps == float("inf")
    for values in ([2, 3], [2, 2, 2], [2], []):
        with pytest.raises(ValueError, match="values of max_episode_steps must be one, or num_envs=2 equal ones"):
            envs.set_attr("max_episode_steps", values)
    for bad in (0, 1.5, "a"):
        with pytest.raises(ValueError, match="max_episode_steps must be a positive integer"):
            envs.set_attr("max_episode_steps", bad)
    for name in ("action_space", "observation_space"):
        with pytest.raises(ValueError, match="attribute to set must be one that rows share"):
            envs.set_attr(name, None)


@pytest.mark.parametrize("name", ["reset", "step", "close", "call", "set_attr"])
def test_methods_of_the_batch_are_not_called_row_by_row(handle: WorldHandle, name: str) -> None:
    with pytest.raises(ValueError, match=f"method must be one of .*, got '{name}'"):
        GenieVectorEnv(2, checkpoint=handle).call(name)
