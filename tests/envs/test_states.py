"""States of play: cloned, restored into any row, kept as bytes, and refused in another world."""

import copy
import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from safetensors.torch import load, save

from genie_gym.envs import EnvState, GenieEnv, GenieVectorEnv, WorldHandle, zero_rewards
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.sb3 import make_sb3_vec_env

ACTIONS = [1, 4, 0, 2, 7, 3]
QUIET: dict[str, Any] = {"reward_fn": zero_rewards, "maskgit_steps": 2}


def follow(env: GenieEnv, actions: list[int] = ACTIONS) -> np.ndarray:
    return np.stack([env.step(np.int64(action))[0] for action in actions])


def wander(env: Any, steps: int, seed: int = 0) -> None:
    for action in np.random.default_rng(seed).integers(8, size=steps):
        env.step(np.full(env.num_envs, action) if hasattr(env, "num_envs") else action)


@pytest.fixture
def tiny(tiny_checkpoint: Path) -> dict[str, Any]:
    return {"checkpoint": tiny_checkpoint, **QUIET}


@pytest.mark.parametrize("variant", ["additive", "token", "full", "spatial", "oblong", "conv"])
@pytest.mark.parametrize("steps", [0, 3, 40])
def test_the_same_frames_follow_a_restored_state(
    make_world: Callable[[str], GenieWorldModel], variant: str, steps: int
) -> None:
    """After other play and a new episode, many times, at the start and with a full context."""
    env = GenieEnv(checkpoint=WorldHandle(make_world(variant)), render_mode="rgb_array", **QUIET)
    env.reset(seed=1)
    wander(env, steps)
    state, here = env.clone_state(), env.render()
    expected = follow(env)
    for played in (0, 2, 20):
        env.reset(seed=9)
        wander(env, played)
        env.restore_state(state)
        assert np.array_equal(env.render(), here)
        assert np.array_equal(follow(env), expected)


@pytest.mark.parametrize("variant", ["additive", "full"])
@pytest.mark.parametrize("target", [0, 2])
def test_a_state_goes_on_in_another_row_and_in_another_environment(
    make_world: Callable[[str], GenieWorldModel], variant: str, target: int
) -> None:
    handle = WorldHandle(make_world(variant))
    single, envs = GenieEnv(checkpoint=handle, **QUIET), GenieVectorEnv(3, checkpoint=handle, **QUIET)
    single.reset(seed=4)
    wander(single, 5)
    state, expected = single.clone_state(), follow(single)
    envs.reset(seed=20)
    wander(envs, 25)
    others = envs.clone_state()
    envs.restore_state(state, target)
    played = np.stack([envs.step(np.full(3, action))[0] for action in ACTIONS])
    assert np.array_equal(played[:, target], expected)
    for row in {0, 1, 2} - {target}:  # and the other rows have gone on as if nothing had happened
        single.restore_state(others[row])
        assert np.array_equal(follow(single), played[:, row])
    single.restore_state(state)
    assert np.array_equal(follow(single), expected)


def test_a_state_is_branched_over_all_rows_before_any_reset(tiny: dict[str, Any]) -> None:
    single, envs = GenieEnv(**tiny), GenieVectorEnv(8, **tiny)
    single.reset(seed=2)
    wander(single, 4)
    state = single.clone_state()
    envs.restore_state(state)
    frames, *_ = envs.step(np.arange(8))
    for action in range(8):
        single.restore_state(state)
        assert np.array_equal(single.step(np.int64(action))[0], frames[action])
    assert len({frame.tobytes() for frame in frames}) > 1


def test_a_reset_from_a_state_begins_an_episode_there(tiny: dict[str, Any]) -> None:
    env = gym.make("Genie-v0", max_episode_steps=6, **tiny)
    first, info = env.reset(seed=3)
    for action in (1, 2):
        seen = env.step(action)[0]
    state, expected = env.unwrapped.clone_state(), [env.step(action)[0] for action in (3, 4)]
    for seed in (None, 8):
        observation, restored = env.reset(seed=seed, options={"state": state})
        assert np.array_equal(observation, seen)
        assert restored == info
        steps = [env.step(action) for action in (3, 4, 5, 6, 7, 0)]
        assert np.array_equal(np.stack(expected), np.stack([step[0] for step in steps[:2]]))
        assert [step[3] for step in steps] == [False] * 5 + [True], "the limit of steps begins anew"
    assert env.unwrapped.np_random_seed == 8
    assert not np.array_equal(env.reset(seed=5)[0], first)


def test_rows_are_reset_from_states(tiny: dict[str, Any]) -> None:
    envs = GenieVectorEnv(3, max_episode_steps=4, **tiny)
    first, infos = envs.reset(seed=0)
    starts = envs.clone_state()
    wander(envs, 3)
    late = envs.step(np.zeros(3, dtype=np.int64))
    assert late[3].all()
    observations, restored = envs.reset(options={"states": [starts[2], starts[0], starts[1]]})
    assert np.array_equal(observations, first[[2, 0, 1]])
    assert restored["world_seed"].tolist() == infos["world_seed"][[2, 0, 1]].tolist()
    assert np.array_equal(envs.reset(options={"state": starts[1]})[0], first[[1, 1, 1]])
    wander(envs, 2)
    before = envs.step(np.zeros(3, dtype=np.int64))[0]
    mask = np.array([False, True, False])
    observations, restored = envs.reset(options={"state": starts[0], "reset_mask": mask})
    assert np.array_equal(observations, np.stack([before[0], first[0], before[2]]))
    assert restored["_world_seed"].tolist() == mask.tolist()
    assert envs.step(np.zeros(3, dtype=np.int64))[3].tolist() == [True, False, True], "only that row counts anew"


def test_the_steps_and_the_end_of_an_episode_are_restored(tiny: dict[str, Any]) -> None:
    tiny = tiny | {"reward_fn": lambda previous, actions, frames: (np.zeros(len(actions)), actions == 7)}
    single, envs = GenieEnv(**tiny), GenieVectorEnv(2, max_episode_steps=5, autoreset_mode="Disabled", **tiny)
    single.reset(seed=0)
    wander_free = [single.step(np.int64(action)) for action in (1, 2, 3)]
    assert not any(step[2] for step in wander_free)
    state = single.clone_state()
    single.step(np.int64(7))
    ended = single.clone_state()
    single.restore_state(state)
    single.step(np.int64(1))
    single.restore_state(ended)
    with pytest.raises(ResetNeeded, match="ended this episode"):
        single.step(np.int64(1))
    envs.restore_state([state, state])
    envs.step(np.array([1, 1]))
    assert envs.step(np.array([1, 1]))[3].tolist() == [True, True]
    envs.restore_state(ended, rows=[1])
    with pytest.raises(ResetNeeded, match=r"ended rows \[0, 1\]"):
        envs.step(np.array([1, 1]))


@pytest.mark.parametrize("way", ["bytes", "pickle", "deepcopy"])
def test_a_state_travels(tiny: dict[str, Any], way: str) -> None:
    env = GenieEnv(**tiny)
    env.reset(seed=1)
    wander(env, 20)
    state = env.clone_state()
    read = {
        "bytes": lambda: EnvState.from_bytes(state.to_bytes()),
        "pickle": lambda: pickle.loads(pickle.dumps(state)),
        "deepcopy": lambda: copy.deepcopy(state),
    }[way]()
    expected, other = follow(env), GenieEnv(**tiny)
    other.reset(options={"state": read})
    assert np.array_equal(follow(other), expected)
    assert read.info == state.info
    assert read.steps == 20


def test_another_process_reads_the_bytes(tiny_checkpoint: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    env = GenieEnv(**tiny)
    env.reset(seed=1)
    (tmp_path / "state").write_bytes(env.clone_state().to_bytes())
    program = f"""
import numpy as np
import torch
torch.set_num_threads(1)
from pathlib import Path
from genie_gym.envs import EnvState, GenieEnv, zero_rewards
env = GenieEnv(checkpoint={str(tiny_checkpoint)!r}, reward_fn=zero_rewards, maskgit_steps=2)
env.reset(options={{"state": EnvState.from_bytes(Path("state").read_bytes())}})
np.save("frames.npy", np.stack([env.step(np.int64(action))[0] for action in {ACTIONS}]))
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(root)}, check=True)
    assert np.array_equal(np.load(tmp_path / "frames.npy"), follow(env))


def test_a_state_of_another_world_is_refused(
    tiny: dict[str, Any], make_world: Callable[[str], GenieWorldModel], tmp_path: Path
) -> None:
    """Also one of the same sizes, in memory or saved, given as it is or read from bytes; present play goes on."""
    env, envs = GenieEnv(**tiny), GenieVectorEnv(2, **tiny)
    env.reset(seed=0)
    envs.reset(seed=0)
    expected = follow(env)
    saved = save_world(make_world("film"), tmp_path / "film")
    in_memory = GenieEnv(checkpoint=WorldHandle(make_world("additive")), **QUIET)
    strangers = [GenieEnv(checkpoint=saved, **QUIET), GenieEnv(**tiny | {"precision": "bfloat16"}), in_memory]
    for stranger in strangers:
        stranger.reset(seed=0)
    states = [stranger.clone_state() for stranger in strangers]
    states += [EnvState.from_bytes(state.to_bytes()) for state in states[:2]]
    env.reset(seed=0)
    for state in states:
        for refuse in (
            lambda state=state: env.restore_state(state),
            lambda state=state: env.reset(seed=5, options={"state": state}),
            lambda state=state: envs.restore_state(state, rows=1),
            lambda state=state: envs.reset(seed=5, options={"states": [state, state]}),
        ):
            with pytest.raises(ValueError, match=r"state must be of the world that is played, 'tiny' of .* got one of"):
                refuse()
    assert np.array_equal(follow(env), expected)
    with pytest.raises(ValueError, match="state must be of a saved world to be kept as bytes, got one of WorldHandle"):
        states[2].to_bytes()


@pytest.mark.parametrize("bad", [None, 3, "state", b"", b"\x00" * 64, np.zeros(3), {"state": 1}, [1, 2]])
def test_what_is_no_state_is_refused(tiny: dict[str, Any], bad: Any) -> None:
    env, envs = GenieEnv(**tiny), GenieVectorEnv(2, **tiny)
    env.reset(seed=0)
    envs.reset(seed=0)
    calls: list[Callable[[], Any]] = [
        lambda: env.restore_state(bad),
        lambda: env.reset(options={"state": bad}),
        lambda: envs.restore_state(bad),
        lambda: envs.reset(options={"state": bad}),
        lambda: envs.reset(options={"states": bad}),
        lambda: envs.reset(options={"states": [bad, bad]}),
        lambda: EnvState.from_bytes(bad),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"state.* must be "):
            call()


def test_options_exclude_each_other_and_rows_are_checked(tiny: dict[str, Any]) -> None:
    env, envs = GenieEnv(**tiny), GenieVectorEnv(2, **tiny)
    for call in (env.clone_state, envs.clone_state, lambda: envs.clone_state(0)):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    state = env.clone_state()
    with pytest.raises(ResetNeeded):
        envs.restore_state(state, rows=0)
    for options in ({"state": state, "prompt": None}, {"state": state, "states": [state] * 2}):
        with pytest.raises(ValueError, match=r"options of reset must be .*, got"):
            (env if "prompt" in options else envs).reset(options=options)
    envs.reset(seed=0)
    for rows in ([], [0, 0], [2], -1, 2, ["a"], [0.5]):
        with pytest.raises(ValueError, match="rows must be different numbers in"):
            envs.restore_state(state, rows)
    for row in (2, -1, "a", 1.5):
        with pytest.raises(ValueError, match="row must be in"):
            envs.clone_state(row)
    with pytest.raises(ValueError, match="state must be one state, or a list of 2, got '1 states'"):
        envs.restore_state([state])


def damage(data: bytes, kind: str) -> bytes:
    """Return the bytes of a state with one fault."""
    tensors, length = load(data), struct.unpack("<Q", data[:8])[0]
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    about = json.loads(metadata["state"])
    if kind in tensors:
        tensors[kind] = tensors[kind] - 1 - tensors[kind].abs().max()
    elif kind.startswith("missing"):
        del tensors["tokens"]
    elif kind.startswith("more"):
        tensors["more"] = torch.zeros(1)
    elif kind.startswith("shape"):
        tensors["tokens"] = tensors["tokens"][..., :-1].contiguous()
    elif kind.startswith("type"):
        tensors["tokens"] = tensors["tokens"].float()
    elif kind == "large token":
        tensors["tokens"] = tensors["tokens"] + 10_000
    elif kind in ("NaN", "infinity"):
        tensors["dynamics.0.keys"][0, 0] = float(kind)
    elif kind == "format":
        metadata["format"] = "genie-gym state 0"
    elif kind.startswith("no "):
        del about[kind[3:]]
    else:
        about[kind] = -2 if isinstance(about[kind], int) else 3
    return save(tensors, {**metadata, "state": json.dumps(about)})


@pytest.mark.parametrize(
    "kind",
    [
        *("tokens", "previous_actions", "numbers", "missing tensor", "more tensors", "shape", "type", "large token"),
        *("NaN", "infinity"),
        *("format", "no steps", "no digest", "checkpoint", "digest", "precision"),
        *("prompt_index", "world_seed", "steps", "is_over"),
    ],
)
def test_damaged_bytes_are_refused_and_nothing_is_lost(tiny: dict[str, Any], kind: str) -> None:
    env, envs = GenieEnv(**tiny), GenieVectorEnv(2, **tiny)
    env.reset(seed=0)
    envs.reset(seed=0)
    data = damage(env.clone_state().to_bytes(), kind)
    expected = follow(env)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"state"):
        env.reset(seed=7, options={"state": EnvState.from_bytes(data)})
    with pytest.raises(ValueError, match=r"state"):
        envs.restore_state(EnvState.from_bytes(data), rows=[1])
    assert np.array_equal(follow(env), expected)
    assert env.np_random_seed == 0


def make_bytes(about: str, kind: str, size: int) -> bytes:
    """Return bytes of the format of a state with one tensor, and any text in the place of what tells of it."""
    tensor = {"dtype": kind, "shape": [4], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "genie-gym state 1", "state": about}, "tokens": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.mark.parametrize(
    ("about", "kind", "size"),
    [
        *(("[" * 100_000, "U8", 4), ("9" * 5_000, "U8", 4), ("null", "U8", 4), ("", "U8", 4)),
        *(("{}", kind, size) for kind, size in (("F4", 2), ("F8_E8M0", 4), ("F6_E2M3", 3), ("F8_E4M3", 4))),
        *(("{}", kind, size) for kind, size in (("U16", 8), ("U64", 32), ("C64", 32))),
    ],
)
def test_bytes_of_other_contents_are_refused(about: str, kind: str, size: int) -> None:
    """Texts nested without end, and types that torch lacks or a state has not."""
    with pytest.raises(ValueError, match="state must be "):
        EnvState.from_bytes(make_bytes(about, kind, size))


@pytest.mark.parametrize("cut", [1, 9, 500, 100_000])
def test_bytes_that_are_cut_short_are_refused(tiny: dict[str, Any], cut: int) -> None:
    env = GenieEnv(**tiny)
    env.reset(seed=0)
    data = env.clone_state().to_bytes()
    with pytest.raises(ValueError, match=r"state must be bytes of EnvState\.to_bytes"):
        EnvState.from_bytes(data[:cut])


def test_sb3_clones_and_restores_rows(tiny: dict[str, Any]) -> None:
    vec_env = make_sb3_vec_env(num_envs=3, seed=0, **tiny)
    first = vec_env.reset()
    states = vec_env.env_method("clone_state")
    expected = vec_env.step(np.array([1, 2, 3]))[0]
    vec_env.env_method("restore_state", states[2], indices=[0])
    frames, _, _, infos = vec_env.step(np.array([3, 0, 0]))
    assert np.array_equal(frames[0], expected[2])
    assert infos[0]["world_seed"] == states[2].world_seed
    vec_env.set_options([{"state": state} for state in states[::-1]])
    assert np.array_equal(vec_env.reset(), first[::-1])


def test_a_state_is_sampled_as_the_environment_samples(tiny: dict[str, Any]) -> None:
    env, hot = GenieEnv(**tiny), GenieEnv(**tiny | {"temperature": 3.0})
    env.reset(seed=0)
    state = env.clone_state()
    hot.restore_state(state)
    assert not np.array_equal(follow(hot), follow(env))
    assert hot._session._state.sampling.temperature == 3.0
