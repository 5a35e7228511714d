"""The single environment: Gymnasium's contract, seeds, prompts, episodes and errors."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from genie_gym.checks import LIMITS
from genie_gym.envs import GenieEnv, WorldHandle, zero_rewards


@pytest.fixture
def env(handle: WorldHandle) -> GenieEnv:
    return GenieEnv(checkpoint=handle)


@pytest.mark.parametrize("has_pygame", [True, False])
def test_gymnasiums_checker_accepts_the_environment(
    handle: WorldHandle, has_pygame: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if has_pygame:
        request.getfixturevalue("pygame")
    else:
        monkeypatch.setitem(sys.modules, "pygame", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("Genie-v0", checkpoint=handle, render_mode="rgb_array").unwrapped)


def test_gymnasiums_checker_accepts_an_environment_with_rewards(handle: WorldHandle, episode_ends: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("Genie-v0", checkpoint=handle, reward_fn=lambda *seen: episode_ends(*seen)[0])
        check_env(env.unwrapped, skip_render_check=True)


def test_stable_baselines_checker_accepts_the_environment(env: GenieEnv) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(env, warn=False)


def test_observations_lie_in_their_space(env: GenieEnv) -> None:
    assert env.observation_space == gym.spaces.Box(0, 255, (8, 12, 3), np.uint8)
    assert env.action_space == gym.spaces.Discrete(5)
    observation, _ = env.reset(seed=0)
    for action in range(5):
        assert observation in env.observation_space
        observation, *_ = env.step(np.int64(action))


def test_the_seed_determines_everything(env: GenieEnv, play: Any) -> None:
    first = play(env, 1, [0, 1, 2])
    first_after, info_after = env.reset()
    assert np.array_equal(first, play(env, 1, [0, 1, 2]))
    again_after, again_info_after = env.reset()
    assert np.array_equal(first_after, again_after)
    assert info_after == again_info_after


def test_different_seeds_give_different_episodes(env: GenieEnv, play: Any) -> None:
    episodes = [play(env, seed, [0, 1, 2]) for seed in range(4)]
    for index, one in enumerate(episodes):
        assert not any(np.array_equal(one[-1], other[-1]) for other in episodes[:index])


def test_resets_without_a_seed_draw_new_starts(env: GenieEnv) -> None:
    env.reset(seed=0)
    infos = [env.reset()[1] for _ in range(30)]
    assert {info["prompt_index"] for info in infos} == {0, 1, 2, 3}
    assert len({info["world_seed"] for info in infos}) == 30


def test_the_seed_draws_the_start_clip(env: GenieEnv, stub_world: Any) -> None:
    observation, info = env.reset(seed=3)
    assert np.array_equal(observation, stub_world.start_clips[info["prompt_index"], -1])


def test_infos_are_small_and_json_able(env: GenieEnv) -> None:
    _, info = env.reset(seed=3)
    assert set(info) == {"prompt_index", "world_seed"}
    assert json.loads(json.dumps(info)) == info


def test_an_info_repeats_the_episode(env: GenieEnv, stub_world: Any, play: Any) -> None:
    frames = play(env, 5, [3, 1])
    _, info = env.reset(seed=5)
    import torch

    from genie_gym.data.frames import to_float, to_uint8

    prompt = to_float(stub_world.start_clips[info["prompt_index"]][None])
    state = stub_world.begin(prompt, seeds=[info["world_seed"]])
    state = stub_world.advance(state, torch.tensor([3]))
    last = stub_world.show(stub_world.advance(state, torch.tensor([1])))
    assert np.array_equal(to_uint8(last)[0], frames[-1])


def test_actions_matter(env: GenieEnv, play: Any) -> None:
    assert len({play(env, 0, [action])[-1].tobytes() for action in range(5)}) == 5


def test_episodes_start_from_the_prompt(handle: WorldHandle, prompt_image: np.ndarray) -> None:
    env = GenieEnv(prompt_image, checkpoint=handle)
    for seed in (0, None, 1):
        observation, info = env.reset(seed=seed)
        assert np.array_equal(observation, prompt_image)
        assert info["prompt_index"] == -1


def test_a_reset_may_have_its_own_prompt(handle: WorldHandle, prompt_image: np.ndarray) -> None:
    env = GenieEnv(prompt_image, checkpoint=handle)
    assert (env.reset(options={"prompt": np.full((4, 4), 9, np.uint8)})[0] == 9).all()
    assert env.reset(options={"prompt": None})[1]["prompt_index"] >= 0
    assert np.array_equal(env.reset()[0], prompt_image)


def test_earlier_prompt_frames_matter(handle: WorldHandle, prompt_image: np.ndarray, play: Any) -> None:
    still = GenieEnv([prompt_image, prompt_image], checkpoint=handle)
    moving = GenieEnv([prompt_image // 2, prompt_image], checkpoint=handle)
    assert np.array_equal(still.reset(seed=0)[0], moving.reset(seed=0)[0])
    assert not np.array_equal(play(still, 0, [1])[-1], play(moving, 0, [1])[-1])


def test_sampling_reaches_the_world(handle: WorldHandle) -> None:
    env = GenieEnv(checkpoint=handle, maskgit_steps=3, temperature=0.5)
    env.reset(seed=0)
    assert env._session._state.sampling == (3, 0.5)


def test_observations_are_copies(env: GenieEnv, play: Any) -> None:
    untouched = play(env, 0, [1, 2])
    env.reset(seed=0)[0][:] = 0
    env.step(np.int64(1))[0][:] = 0
    assert np.array_equal(env.step(np.int64(2))[0], untouched[-1])


def test_rewards_see_both_frames_and_the_action(handle: WorldHandle) -> None:
    seen: list[Any] = []

    def reward(previous: np.ndarray, actions: np.ndarray, frames: np.ndarray) -> np.ndarray:
        seen.append((previous, actions, frames))
        return np.array([2])

    env = GenieEnv(checkpoint=handle, reward_fn=reward)
    first, _ = env.reset(seed=0)
    second, value, terminated, truncated, _ = env.step(np.int64(4))
    assert (value, terminated, truncated) == (2.0, False, False)
    assert [type(one) for one in (value, terminated, truncated)] == [float, bool, bool]
    assert np.array_equal(seen[0][0], first[None])
    assert seen[0][1].tolist() == [4]
    assert np.array_equal(seen[0][2], second[None])


def test_rewards_may_end_an_episode(handle: WorldHandle) -> None:
    env = GenieEnv(checkpoint=handle, reward_fn=lambda p, a, f: (np.zeros(1), a == 3))
    env.reset(seed=0)
    assert not env.step(np.int64(2))[2]
    assert env.step(np.int64(3))[2]
    with pytest.raises(ResetNeeded, match="ended this episode"):
        env.step(np.int64(2))
    env.reset()
    assert not env.step(np.int64(2))[2]


def test_without_rewards_an_episode_never_terminates(env: GenieEnv) -> None:
    env.reset(seed=0)
    steps = [env.step(np.int64(step % 5)) for step in range(50)]
    assert {(reward, terminated, truncated) for _, reward, terminated, truncated, _ in steps} == {(0.0, False, False)}


@pytest.mark.parametrize(
    "action", [5, -1, 1.0, "1", None, True, [1], np.array([1]), np.float32(1), np.uint64(2**63), {"a": 1}, 10**30]
)
def test_invalid_actions_are_refused(env: GenieEnv, action: Any, play: Any) -> None:
    untouched = play(env, 0, [1])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"latent actions must be .*got "):
        env.step(action)
    assert np.array_equal(env.step(np.int64(1))[0], untouched[-1]), "a refused action leaves no trace"


@pytest.mark.parametrize("action", [2, np.int64(2), np.array(2), np.uint8(2), np.int32(2)])
def test_integers_of_all_types_are_actions(env: GenieEnv, action: Any, play: Any) -> None:
    frames = play(env, 0, [2])
    env.reset(seed=0)
    assert np.array_equal(env.step(action)[0], frames[-1])


def test_steps_before_a_reset_are_refused(env: GenieEnv) -> None:
    with pytest.raises(ResetNeeded, match=r"reset\(\) must be called"):
        env.step(np.int64(0))
    env.render_mode = "rgb_array"
    with pytest.raises(ResetNeeded, match=r"reset\(\) must be called"):
        env.render()


def test_closing_twice_is_allowed_and_stepping_afterwards_is_not(env: GenieEnv) -> None:
    env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(ResetNeeded, match=r"after close\(\)"):
        env.step(np.int64(0))


@pytest.mark.parametrize("options", [{"promt": 1}, {"prompts": []}])
def test_unknown_options_are_refused(env: GenieEnv, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"options .*\['prompt', 'state'\], got \['{next(iter(options))}'\]"):
        env.reset(options=options)


def test_an_invalid_prompt_in_options_is_refused(env: GenieEnv) -> None:
    with pytest.raises(ValueError, match="prompt must be an image"):
        env.reset(options={"prompt": 3})


def test_a_world_without_start_clips_needs_a_prompt(bare_handle: WorldHandle, prompt_image: np.ndarray) -> None:
    env = GenieEnv(checkpoint=bare_handle)
    with pytest.raises(ValueError, match="prompt must be given since this checkpoint ships no start clips"):
        env.reset(seed=0)
    assert np.array_equal(env.reset(seed=0, options={"prompt": prompt_image})[0], prompt_image)


@pytest.mark.parametrize("field", ["maskgit_steps", "temperature"])
@pytest.mark.parametrize("side", [0, 1])
def test_the_limits_of_sampling_can_be_played(tiny_checkpoint: Path, field: str, side: int) -> None:
    """What is taken as an argument is also taken by the world's config."""
    limit = LIMITS[f"SamplingConfig.{field}"][side]
    env = GenieEnv(checkpoint=tiny_checkpoint, reward_fn=zero_rewards, **{field: limit})
    env.reset(seed=0)
    assert getattr(env._session.sampling, field) == limit
    assert env.observation_space.contains(env.step(np.int64(1))[0])
