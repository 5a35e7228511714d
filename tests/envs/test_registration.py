"""The registration of ``Genie-v0``: the cost of the import, and the content of ``env.spec``."""

import copy
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import genie_gym
from genie_gym.envs import GenieEnv, GenieVectorEnv, WorldHandle, zero_rewards

ROOT = Path(__file__).parents[2]


def test_importing_and_registering_loads_no_torch() -> None:
    code = (
        "import sys, gymnasium, genie_gym\n"
        "spec = gymnasium.spec('Genie-v0')\n"
        "print(spec.entry_point, 'torch' in sys.modules, callable(genie_gym.load))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["genie_gym.envs.genie_env:GenieEnv", "False", "True"]
    assert done.stderr == ""


def test_make_returns_the_environments(handle: WorldHandle) -> None:
    env = gym.make("genie_gym:Genie-v0", checkpoint=handle)
    assert isinstance(env.unwrapped, GenieEnv)
    envs = gym.make_vec("Genie-v0", num_envs=2, checkpoint=handle)
    assert isinstance(envs.unwrapped, GenieVectorEnv)
    assert repr(envs) == "GenieVectorEnv(Genie-v0, num_envs=2)"


def test_make_gives_no_warnings(handle: WorldHandle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gym.make("Genie-v0", checkpoint=handle).reset(seed=0)
        gym.make_vec("Genie-v0", num_envs=2, checkpoint=handle).reset(seed=0)


@pytest.mark.parametrize(("given", "ends_at"), [({"max_episode_steps": 3}, 3), ({}, genie_gym.MAX_EPISODE_STEPS)])
def test_make_limits_the_episode(handle: WorldHandle, given: dict[str, Any], ends_at: int) -> None:
    env = gym.make("Genie-v0", checkpoint=handle, **given)
    envs = gym.make_vec("Genie-v0", num_envs=2, checkpoint=handle, **given)
    env.reset(seed=0)
    envs.reset(seed=0)
    for step in range(1, ends_at + 1):
        _, _, _, truncated, _ = env.step(np.int64(0))
        _, _, _, truncations, _ = envs.step(np.zeros(2, dtype=np.int64))
        assert truncated == (step == ends_at)
        assert truncations.tolist() == [truncated] * 2


def test_minus_one_removes_the_limit(handle: WorldHandle) -> None:
    env = gym.make("Genie-v0", checkpoint=handle, max_episode_steps=-1)
    envs = gym.make_vec("Genie-v0", checkpoint=handle, max_episode_steps=-1)
    env.reset(seed=0)
    envs.reset(seed=0)
    for _ in range(genie_gym.MAX_EPISODE_STEPS + 1):
        assert not env.step(np.int64(0))[3]
        assert not envs.step(np.zeros(1, dtype=np.int64))[3].any()


def test_copies_of_the_spec_hold_no_weights(handle: WorldHandle) -> None:
    env = gym.make("Genie-v0", checkpoint=handle, max_episode_steps=5)  # a copied StubWorld raises
    env = gym.wrappers.RecordEpisodeStatistics(env)
    envs = gym.make_vec("Genie-v0", num_envs=2, checkpoint=handle)
    for spec in (env.spec, envs.spec):
        assert spec is not None
        assert copy.deepcopy(spec).kwargs["checkpoint"] is handle


def test_the_spec_makes_the_same_environment_again(handle: WorldHandle, play: Any) -> None:
    env = gym.make("Genie-v0", checkpoint=handle, prompt=np.zeros((5, 5), np.uint8), temperature=0.5)
    assert env.spec is not None
    again = gym.make(env.spec)
    assert np.array_equal(play(env, 4, [1, 2, 3]), play(again, 4, [1, 2, 3]))


def test_the_spec_is_json_able(monkeypatch: pytest.MonkeyPatch, handle: WorldHandle, tmp_path: Path, play: Any) -> None:
    monkeypatch.setattr("genie_gym.envs.worlds.load_world", lambda name, device, precision: handle.world)
    from PIL import Image

    path = str(tmp_path / "prompt.png")
    Image.new("RGB", (20, 20), "red").save(path)
    reward = "genie_gym.envs.rewards:zero_rewards"
    env = gym.make("Genie-v0", prompt=[path, path], checkpoint="coinrun", reward_fn=reward, maskgit_steps=2)
    assert env.spec is not None
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"] == {
        "prompt": [path, path],
        "checkpoint": "coinrun",
        "reward_fn": reward,
        "maskgit_steps": 2,
    }
    again = gym.make(EnvSpec.from_json(text))
    assert np.array_equal(play(env, 0, [1, 2]), play(again, 0, [1, 2]))
    envs = gym.make_vec("Genie-v0", num_envs=2, checkpoint="coinrun", reward_fn=reward, autoreset_mode="SameStep")
    assert envs.spec is not None
    assert json.loads(envs.spec.to_json())["kwargs"]["autoreset_mode"] == "SameStep"


def test_zero_rewards_are_announced_once(handle: WorldHandle, caplog: pytest.LogCaptureFixture) -> None:
    gym.make("Genie-v0", checkpoint=handle, reward_fn=zero_rewards)
    assert caplog.records == []
    for _ in range(2):
        gym.make("Genie-v0", checkpoint=handle)
        gym.make_vec("Genie-v0", checkpoint=handle)
    assert [(record.name, record.levelno) for record in caplog.records] == [("genie_gym", logging.WARNING)]
    assert "rewards are always 0 without a reward_fn" in caplog.text


def test_zero_rewards_are_announced_on_stderr_by_default() -> None:
    code = "from genie_gym.envs.rewards import announce_zero_rewards as a; a(); a()"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr.count("rewards are always 0") == 1


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"checkpoint": "no-such-world"}, ["checkpoint", "'no-such-world'"]),
        ({"checkpoint": 3}, ["checkpoint", "WorldHandle(world)", "int"]),
        ({"maskgit_steps": 0}, ["maskgit_steps", "0"]),
        ({"precision": "float64"}, ["precision", "float64"]),
        ({"maskgit_steps": 2.5}, ["maskgit_steps", "2.5"]),
        ({"maskgit_steps": True}, ["maskgit_steps", "True"]),
        ({"temperature": 0}, ["temperature", "0"]),
        ({"temperature": float("nan")}, ["temperature", "nan"]),
        ({"temperature": float("inf")}, ["temperature", "inf"]),
        ({"temperature": "hot"}, ["temperature", "'hot'"]),
        ({"temperature": 1e-7}, ["temperature", "1e-07", "from 1e-06 to 1e+06"]),
        ({"temperature": 1e7}, ["temperature", "10000000.0"]),
        ({"maskgit_steps": 1025}, ["maskgit_steps", "1025", "[1, 1024]"]),
        ({"checkpoint": "coinrun", "device": "toaster"}, ["device", "'toaster'"]),
        ({"checkpoint": "coinrun", "device": None}, ["device", "None"]),
        ({"render_mode": "ansi"}, ["render_mode", "'ansi'"]),
        ({"reward_fn": 3}, ["reward_fn", "3"]),
        ({"reward_fn": "nowhere"}, ["reward_fn", "'nowhere'"]),
        ({"reward_fn": "no_such_module:f"}, ["reward_fn", "no_such_module"]),
        ({"reward_fn": "genie_gym:no_such_name"}, ["reward_fn", "no_such_name"]),
        ({"reward_fn": "genie_gym:__version__"}, ["reward_fn", "__version__"]),
        ({"text_to_image": 3}, ["text_to_image", "3"]),
        ({"prompt": []}, ["prompt", "1 to 4 frames", "0"]),
    ],
)
@pytest.mark.parametrize("make", [GenieEnv, GenieVectorEnv])
def test_invalid_arguments_are_refused(
    make: Any, handle: WorldHandle, kwargs: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make(**{"checkpoint": handle, **kwargs})
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_handle_needs_a_world() -> None:
    with pytest.raises(ValueError, match=r"world must be a GenieWorldModel, got 'coinrun'"):
        WorldHandle("coinrun")  # type: ignore[arg-type]


def test_the_repr_of_a_handle_describes_its_world(handle: WorldHandle) -> None:
    assert repr(handle) == "WorldHandle(8x12, 5 latent actions)"
