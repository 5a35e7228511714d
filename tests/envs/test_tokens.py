"""Environments whose agents see tokens: the same play as with pixels, and a decoder that runs only when asked."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.vec_env import VecFrameStack

from genie_gym.envs import GenieEnv, GenieVectorEnv, WorldHandle, reads_tokens, zero_rewards
from genie_gym.envs.session import Session, Start
from genie_gym.sb3 import TokenExtractor, make_sb3_vec_env, token_policy

SEES_TOKENS: dict[str, Any] = {"observation": "tokens", "maskgit_steps": 2}
DECODERS = ["conv", "spatial", "additive", "full"]
"""Worlds whose decoders see each frame alone (the first two), or those before it too."""


def act(step: int, rows: int) -> np.ndarray:
    return (np.arange(rows) + 3 * step) % 8


@pytest.mark.parametrize("variant", DECODERS)
def test_rendered_frames_are_those_of_the_pixel_environment(make_world: Any, variant: str) -> None:
    """They are rendered at every third step only, across the ends of episodes."""
    kwargs: dict[str, Any] = {"checkpoint": WorldHandle(make_world(variant)), "max_episode_steps": 5}
    kwargs |= {"reward_fn": zero_rewards, "maskgit_steps": 2, "render_mode": "rgb_array", "autoreset_mode": "SameStep"}
    pixels, tokens = GenieVectorEnv(2, **kwargs), GenieVectorEnv(2, observation="tokens", **kwargs)
    frames, seen = pixels.reset(seed=0)[0], [tokens.reset(seed=0)[0]]
    for step in range(12):
        if step % 3 == 0:
            assert np.array_equal(np.stack(tokens.render() or ()), frames)
        frames = pixels.step(act(step, 2))[0]
        seen.append(tokens.step(act(step, 2))[0])
    assert all(each in tokens.observation_space for each in seen)
    assert np.array_equal(tokens._session.tokens, pixels._session.tokens)
    assert len({each.tobytes() for each in seen}) == len(seen)


@pytest.mark.parametrize("variant", ["conv", "additive"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_row_equals_a_single_environment(make_world: Any, variant: str, mode: AutoresetMode) -> None:
    kwargs: dict[str, Any] = {"checkpoint": WorldHandle(make_world(variant)), "max_episode_steps": 2, **SEES_TOKENS}
    kwargs["reward_fn"] = zero_rewards
    envs = gym.make_vec("Genie-v0", num_envs=2, autoreset_mode=mode, **kwargs)
    singles = gym.make_vec("Genie-v0", 2, "sync", vector_kwargs={"autoreset_mode": mode}, **kwargs)
    assert (envs.observation_space, envs.action_space) == (singles.observation_space, singles.action_space)
    assert data_equivalence(envs.reset(seed=3), singles.reset(seed=3), exact=True)
    for step in range(6):
        here, there = envs.step(act(step, 2)), singles.step(act(step, 2))
        assert data_equivalence(here, there, exact=True)
        if mode is AutoresetMode.DISABLED and (here[2] | here[3]).any():
            options = {"reset_mask": here[2] | here[3]}
            assert data_equivalence(envs.reset(options=options), singles.reset(options=options), exact=True)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_nothing_is_decoded_unless_somebody_looks(handle: WorldHandle, stub_world: Any, mode: str) -> None:
    kwargs: dict[str, Any] = {"checkpoint": handle, "reward_fn": zero_rewards, "max_episode_steps": 3}
    envs = GenieVectorEnv(2, observation="tokens", autoreset_mode=mode, render_mode="rgb_array", **kwargs)
    envs.reset(seed=0)
    for _ in range(7):
        envs.step(np.zeros(2, dtype=np.int64))
    assert stub_world.calls["show"] == 0
    envs.render()
    envs.render()
    assert stub_world.calls["show"] == 1


def test_a_reward_may_read_tokens(handle: WorldHandle, stub_world: Any) -> None:
    """Then it gets what the agent sees, and no frame is decoded; in the pixel environment it gets the same."""
    seen: list[tuple[np.ndarray, ...]] = []

    @reads_tokens
    def reward(previous: np.ndarray, actions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        seen.append((previous, tokens))
        return tokens.mean(axis=(1, 2)) - previous.mean(axis=(1, 2))

    envs = [GenieVectorEnv(2, checkpoint=handle, reward_fn=reward, observation=kind) for kind in ("tokens", "pixels")]
    first, _ = envs[0].reset(seed=0)
    second, rewards, *_ = envs[0].step(np.array([1, 2]))
    assert stub_world.calls["show"] == 0
    assert np.array_equal(seen[0][0], first)
    assert np.array_equal(seen[0][1], second)
    assert second.shape == (2, 2, 3)
    envs[1].reset(seed=0)
    assert np.array_equal(envs[1].step(np.array([1, 2]))[1], rewards)
    assert rewards.any()


def test_a_reward_that_reads_frames_gets_them(make_world: Any) -> None:
    def brightness(previous: np.ndarray, actions: np.ndarray, frames: np.ndarray) -> np.ndarray:
        assert frames.shape[1:] == (64, 64, 3)
        return frames.mean(axis=(1, 2, 3)) - previous.mean(axis=(1, 2, 3))

    kwargs: dict[str, Any] = {"checkpoint": WorldHandle(make_world("conv")), "reward_fn": brightness}
    kwargs |= {"maskgit_steps": 2, "max_episode_steps": 3, "autoreset_mode": "SameStep"}
    envs = [GenieVectorEnv(2, observation=kind, **kwargs) for kind in ("tokens", "pixels")]
    for each in envs:
        each.reset(seed=0)
    for step in range(5):
        rewards = [each.step(act(step, 2))[1] for each in envs]
        assert np.array_equal(*rewards)
        assert rewards[0].any()


@pytest.mark.parametrize("variant", ["conv", "additive"])
def test_undo_and_copies_go_back_and_on(make_world: Any, variant: str) -> None:
    world = make_world(variant)
    settings: dict[str, Any] = {"reward_fn": zero_rewards, "undo_steps": 3, "observation": "tokens"}
    session = Session(WorldHandle(world), maskgit_steps=2, **settings)
    session.start([Start(world.start_clips[0], -1, seed) for seed in (0, 1)])
    past = []
    for step in range(3):
        past.append((session.tokens, copy.deepcopy(session).frames))
        session.step(act(step, 2), np.array([True, True]))
    twins = [copy.deepcopy(session), pickle.loads(pickle.dumps(session)), session]
    for twin in twins:
        for tokens, frames in reversed(past):
            assert twin.undo()
            assert np.array_equal(twin.observations, tokens)
            assert np.array_equal(twin.frames, frames)
        for step in range(3):
            twin.step(act(step, 2), np.array([True, True]))
    assert np.array_equal(twins[0].frames, twins[1].frames)
    assert np.array_equal(twins[0].tokens, session.tokens)


def test_checkers_accept_it(make_world: Any) -> None:
    kwargs: dict[str, Any] = {"checkpoint": WorldHandle(make_world("conv")), "reward_fn": zero_rewards}
    check_env(gym.make("Genie-v0", render_mode="rgb_array", **SEES_TOKENS, **kwargs).unwrapped)
    check_env_for_sb3(gym.make("Genie-v0", **SEES_TOKENS, **kwargs))


def test_another_observation_is_refused(handle: WorldHandle) -> None:
    with pytest.raises(ValueError, match="observation must be 'pixels' or 'tokens', got 'token'"):
        GenieEnv(checkpoint=handle, observation="token")


@pytest.mark.parametrize("is_frozen", [True, False])
def test_ppo_learns_from_tokens(make_world: Any, is_frozen: bool) -> None:
    """Codes are those of the world, and change only where they are a start."""
    world = make_world("conv")
    envs = make_sb3_vec_env(num_envs=2, checkpoint=WorldHandle(world), reward_fn=zero_rewards, **SEES_TOKENS)
    stacked = VecFrameStack(envs, 3)
    policy = token_policy(stacked, is_frozen=is_frozen, widths=(8, 8), features=16)
    model = PPO("MlpPolicy", stacked, n_steps=4, batch_size=8, n_epochs=1, seed=0, policy_kwargs=policy)
    extractor = model.policy.features_extractor
    codebook = world.tokenizer.quantizer.codebook
    assert torch.equal(extractor.codes, codebook)
    before = extractor.project.weight.clone()
    model.learn(16)
    assert not torch.equal(extractor.project.weight, before)
    assert torch.equal(extractor.codes, codebook) == is_frozen


def test_the_extractor_tells_frames_and_places_apart() -> None:
    """Features change with the frame and with the place of a token."""
    torch.manual_seed(0)
    space = gym.spaces.Box(0, 4, (8, 16), np.int32)  # type: ignore[arg-type]
    extractor = TokenExtractor(space, np.eye(5, dtype=np.float32), columns=8)
    tokens = torch.zeros(4, 8, 16)
    tokens[1, 2, 3] = tokens[2, 2, 11] = tokens[3, 6, 3] = 4
    features = extractor(tokens)
    assert features.shape == (4, 256)
    assert (torch.cdist(features, features) + torch.eye(4) > 1e-3).all()


@pytest.mark.parametrize("space", [(0, 5, (8, 16)), (0, 4, (8, 12)), (0, 4, (16,))])
def test_the_extractor_refuses_other_spaces(space: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="observation_space must be tokens below 5 in frames of 8 columns"):
        TokenExtractor(gym.spaces.Box(*space, np.int32), np.eye(5, dtype=np.float32), columns=8)  # type: ignore[arg-type]
