"""Agents trained in a world: their observations, their policies outside it, and resuming."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecTransposeImage

from agents.demonstrations import DemonstrationFolders
from agents.dream import DREAMER, Dream, RealGame, RepeatedFrameStack, open_dream, start_from, to_latent_policy
from agents.policy import ImpalaFeatures, LatentPolicy, load_policy, save_policy
from agents.ppo import open_ppo
from agents.windows import read_footage
from genie_gym.data.clips import ClipDataset
from genie_gym.envs import WorldHandle, zero_rewards
from genie_gym.sb3 import make_sb3_vec_env
from genie_gym.serving import load_world
from tests.agents.small import SMALL, random_frames


@pytest.fixture
def stacked(tiny_checkpoint: Path) -> RepeatedFrameStack:
    envs = make_sb3_vec_env(num_envs=2, checkpoint=str(tiny_checkpoint), reward_fn=zero_rewards, max_episode_steps=3)
    return RepeatedFrameStack(envs, 4)


def test_the_stack_holds_the_last_frames_of_its_own_episode(stacked: RepeatedFrameStack) -> None:
    stacked.seed(0)
    first = stacked.reset()
    assert first.shape == (2, 64, 64, 12)
    assert stacked.observation_space.contains(first[0])
    parts = np.split(first, 4, axis=-1)
    assert all(np.array_equal(part, parts[0]) for part in parts)
    seen = [parts[0], *(stacked.step(np.array([0, 1]))[0][..., -3:] for _ in range(2))]
    now, _, dones, infos = stacked.step(np.array([0, 1]))
    assert dones.all()
    for row, info in enumerate(infos):
        last = np.split(info["terminal_observation"], 4, axis=-1)
        assert all(np.array_equal(a, b[row]) for a, b in zip(last[:3], seen, strict=True))
        fresh = np.split(now[row], 4, axis=-1)
        assert all(np.array_equal(part, fresh[0]) for part in fresh)
        assert not np.array_equal(fresh[0], last[3])
    again = stacked.step(np.array([1, 1]))[0]
    assert np.array_equal(again[..., :9], now[..., 3:])


def test_outside_the_dream_it_chooses_as_in_it(
    stacked: RepeatedFrameStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.ppo.native_precision", lambda device: "float32")  # as the policy outside computes
    model = open_ppo(tmp_path, stacked, rollout_steps=8, seed=0, device="cpu")
    torch.nn.init.normal_(model.policy.action_net.weight)
    policy = to_latent_policy(model, "someone")
    frames = np.stack([random_frames(4), random_frames(4, seed=1)])
    videos = torch.from_numpy(frames).permute(0, 1, 4, 2, 3) / 255
    past = torch.full((2, 3), policy.num_actions)
    observations = torch.from_numpy(
        VecTransposeImage.transpose_image(np.concatenate(list(frames.swapaxes(0, 1)), axis=-1))
    )
    logits = model.policy.get_distribution(observations).distribution.logits
    torch.testing.assert_close(policy(videos, past).log_softmax(dim=-1), logits, atol=1e-4, rtol=1e-4)


def test_a_clone_dreams_on(stacked: RepeatedFrameStack, tmp_path: Path) -> None:
    model = open_ppo(tmp_path, stacked, rollout_steps=8, seed=0, device="cpu")
    clone = LatentPolicy(DREAMER, int(stacked.action_space.n))  # type: ignore[attr-defined]
    torch.nn.init.normal_(clone.head.weight)
    start_from(model, clone)
    weights = to_latent_policy(model, "").state_dict()
    assert all(
        torch.equal(weights[name], weight) for name, weight in clone.state_dict().items() if "actions" not in name
    )
    with pytest.raises(ValueError, match=r"policy must choose among the world's .* latent actions, got 3"):
        start_from(model, LatentPolicy(DREAMER, 3))
    with pytest.raises(ValueError, match="policy must have the config"):
        start_from(model, LatentPolicy(SMALL, int(stacked.action_space.n)))  # type: ignore[attr-defined]


def test_a_dream_starts_from_the_videos(tiny_checkpoint: Path, demonstrations: DemonstrationFolders) -> None:
    world = load_world(tiny_checkpoint)
    before = world.start_clips.copy()
    dreamt = open_dream(world, demonstrations.videos, starts=5, seed=0)
    assert dreamt.start_clips.shape == (5, 4, 64, 64, 3)
    assert np.array_equal(world.start_clips, before)
    assert dreamt.dynamics is world.dynamics
    recorded = read_footage(ClipDataset(demonstrations.videos, clip_length=2)).frames
    windows = np.lib.stride_tricks.sliding_window_view(recorded, 4, axis=0).transpose(0, 4, 1, 2, 3)
    assert all((windows == clip).all(axis=(1, 2, 3, 4)).any() for clip in dreamt.start_clips)
    envs = make_sb3_vec_env(num_envs=32, checkpoint=WorldHandle(dreamt), reward_fn=zero_rewards, seed=0)
    envs.reset()
    assert {info["prompt_index"] for info in envs.venv.reset_infos} == set(range(5))
    assert len(before) != 5


@pytest.mark.pipeline
def test_a_dream_goes_on_where_it_stopped(
    tiny_checkpoint: Path, demonstrations: DemonstrationFolders, tmp_path: Path
) -> None:
    Image.fromarray(random_frames(1)[0]).save(tmp_path / "goal.png")
    settings: dict[str, Any] = {
        "reward": f"goal:{tmp_path / 'goal.png'}",
        "starts": demonstrations.videos,
        "labelled": demonstrations.labelled,
        "checkpoint": str(tiny_checkpoint),
        "out": tmp_path / "dream",
        "num_envs": 2,
        "rollout_steps": 8,
        "max_episode_steps": 4,
        "levels": 1,
        "look_every": 100,
    }
    Dream(env_steps=16, **settings).run()
    policy = Dream(env_steps=48, **settings).run()
    curve = json.loads((tmp_path / "dream" / "curve.json").read_text())
    assert [row["env_steps"] for row in curve] == [16, 48]
    assert all(0 <= row["solved"] <= 1 and np.isfinite(row["dream_return"]) for row in curve)
    saved = load_policy(tmp_path / "dream" / "policy")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), policy.parameters(), strict=True))
    assert list((tmp_path / "dream" / "log").rglob("events*"))


@pytest.mark.pipeline
def test_a_clone_waits_for_its_critic(
    tiny_checkpoint: Path, demonstrations: DemonstrationFolders, tmp_path: Path
) -> None:
    """The cloned policy is frozen for the critic's steps and trained afterwards, also by a later call."""
    clone = LatentPolicy(DREAMER, load_world(tiny_checkpoint).config.num_latent_actions)
    torch.nn.init.normal_(clone.head.weight)
    save_policy(clone, tmp_path / "clone")
    settings: dict[str, Any] = {
        "reward": "agents.dream_task:reward_going_right",
        "starts": demonstrations.videos,
        "checkpoint": str(tiny_checkpoint),
        "policy": tmp_path / "clone",
        "critic_steps": 32,
        "out": tmp_path / "dream",
        "num_envs": 2,
        "rollout_steps": 8,
        "max_episode_steps": 4,
    }

    def moved(env_steps: int) -> bool:
        weights = Dream(env_steps=env_steps, **settings).run().state_dict()
        return not all(torch.equal(weights[name], was) for name, was in clone.state_dict().items() if "act" not in name)

    assert not moved(32)
    critic = PPO.load(tmp_path / "dream" / "ppo.zip").policy.vf_features_extractor.encoder.state_dict()
    assert isinstance(clone.network, ImpalaFeatures)
    assert any(not torch.equal(critic[name], was) for name, was in clone.network.encoder.state_dict().items())
    assert moved(48)
    with pytest.raises(ValueError, match="critic_steps must be at most env_steps, 16, got 32"):
        Dream(env_steps=16, **settings).run()


def test_wrong_clones_and_labels_are_rejected(
    tiny_checkpoint: Path, demonstrations: DemonstrationFolders, tmp_path: Path
) -> None:
    save_policy(LatentPolicy(SMALL, 8), tmp_path / "clone")
    with pytest.raises(ValueError, match="policy must"):
        Dream(
            reward="genie_gym.envs.rewards:zero_rewards",
            starts=demonstrations.videos,
            checkpoint=str(tiny_checkpoint),
            policy=tmp_path / "clone",
            out=tmp_path / "dream",
        ).run()
    with pytest.raises(ValueError, match=r"labels must be in 1\.\.\d+"):
        RealGame(load_world(tiny_checkpoint), demonstrations.labelled, 10_000, "easy", 1, 0)
