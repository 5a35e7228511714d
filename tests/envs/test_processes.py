"""Environments in other processes: by id, by pickle and by a handle of a world."""

import functools
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from genie_gym.envs import GenieEnv, WorldHandle, zero_rewards
from genie_gym.models.loading import digest_checkpoint, save_world
from genie_gym.models.world_model import GenieWorldModel

ROOT = Path(__file__).parents[2]
HANGS = 300
"""Seconds after which a process is taken to hang."""
METHODS = ("spawn", "forkserver")

IN_PROCESSES = """
import functools
import sys

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

if __name__ == "__main__":  # what the children import of this file does not register the environment
    import genie_gym

    method, checkpoint = sys.argv[1:]
    settings = {"checkpoint": checkpoint, "maskgit_steps": 2, "reward_fn": "genie_gym.envs:zero_rewards"}
    make = functools.partial(gym.make, "genie_gym:Genie-v0", **settings)
    actions = [np.array([1, 2]), np.array([0, 1]), np.array([2, 2])]
    here = gym.make_vec("Genie-v0", num_envs=2, **settings)
    expected = np.stack([here.reset(seed=3)[0], *(here.step(each)[0] for each in actions)])

    kwargs = {"vectorization_mode": "async", "vector_kwargs": {"context": method}}
    envs = gym.make_vec("genie_gym:Genie-v0", num_envs=2, **kwargs, **settings)
    assert np.array_equal([envs.reset(seed=3)[0], *(envs.step(each)[0] for each in actions)], expected)
    envs.close()

    vec_env = SubprocVecEnv([make], start_method=method)
    vec_env.seed(3)
    assert np.array_equal([vec_env.reset(), *(vec_env.step(each[:1])[0] for each in actions)], expected[:, :1])
    vec_env.close()
    print("the same frames")
"""
"""A whole program, of which the children of spawn and forkserver import all but the last part."""

UNPICKLED = """
import pickle
import sys

read = {}
for name, pickled in pickle.load(sys.stdin.buffer).items():
    try:
        env = pickle.loads(pickled)
        read[name] = [env.step(action)[0] for action in (2, 1, 0)]
    except ValueError as error:
        read[name] = str(error)
pickle.dump(read, sys.stdout.buffer)
"""
"""A program that steps the pickled environments it is given, and returns their frames or why they were refused."""


def run_python(*arguments: str, given: bytes = b"", folder: Path = ROOT) -> bytes:
    """Run Python in another process, with one thread as these tests, and return what it prints."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, input=given, env=variables, cwd=folder, capture_output=True, timeout=HANGS, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make(checkpoint: Path | WorldHandle) -> GenieEnv:
    env = GenieEnv(checkpoint=checkpoint, maskgit_steps=2, reward_fn=zero_rewards)
    env.reset(seed=5)
    env.step(np.int64(1))
    return env


@pytest.mark.parametrize("method", METHODS)
def test_started_processes_know_the_environment(method: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Children of ``spawn`` and ``forkserver`` import no more than the module in the id."""
    (tmp_path / "program.py").write_text(IN_PROCESSES)
    printed = run_python("program.py", method, str(tiny_checkpoint), folder=tmp_path)
    assert printed == b"the same frames\n"


@pytest.fixture(scope="module")
def elsewhere(
    tiny_world: GenieWorldModel,
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    make_world: Callable[[str], GenieWorldModel],
) -> dict[str, Any]:
    """What another process makes of pickled environments, and beside it what they do here."""
    folder = tmp_path_factory.mktemp("elsewhere")
    gone, changed = (shutil.copytree(tiny_checkpoint, folder / name) for name in ("gone", "changed"))
    envs = {"kept": make(tiny_checkpoint), "gone": make(gone), "changed": make(changed)}
    envs["memory"] = make(WorldHandle(tiny_world))
    pickled = {name: pickle.dumps(env) for name, env in envs.items()}
    shutil.rmtree(gone)
    save_world(make_world("film"), changed)
    read = pickle.loads(run_python("-c", UNPICKLED, given=pickle.dumps(pickled)))
    here = {name: [env.step(np.int64(action))[0] for action in (2, 1, 0)] for name, env in envs.items()}
    return {"read": read, "here": here, "folder": folder}


def test_a_pickled_environment_goes_on_in_another_process(elsewhere: dict[str, Any]) -> None:
    assert np.array_equal(elsewhere["read"]["kept"], elsewhere["here"]["kept"])


def test_a_pickle_whose_checkpoint_is_gone_is_refused(elsewhere: dict[str, Any], tiny_checkpoint: Path) -> None:
    reason = elsewhere["read"]["gone"]
    assert f"checkpoint {str(elsewhere['folder'] / 'gone')!r} of digest {digest_checkpoint(tiny_checkpoint)}" in reason
    assert "cannot be loaded" in reason


def test_a_pickle_whose_checkpoint_has_changed_is_refused(elsewhere: dict[str, Any], tiny_checkpoint: Path) -> None:
    changed = elsewhere["folder"] / "changed"
    before, now = digest_checkpoint(tiny_checkpoint), digest_checkpoint(changed)
    assert before != now
    assert elsewhere["read"]["changed"] == f"checkpoint {str(changed)!r} must have the digest {before}, got {now}"


def test_a_pickled_world_in_memory_is_refused_in_another_process(elsewhere: dict[str, Any]) -> None:
    assert "a world in memory, which does not travel between processes: save it" in elsewhere["read"]["memory"]


@pytest.mark.parametrize("method", METHODS)
def test_starting_a_process_with_a_world_in_memory_is_refused(method: str, tiny_world: GenieWorldModel) -> None:
    """The parent raises: a child that fails to start only closes the connection."""
    make_env = functools.partial(gym.make, "genie_gym:Genie-v0", checkpoint=WorldHandle(tiny_world))
    child = multiprocessing.get_context(method).Process(target=make_env)
    with pytest.raises(ValueError, match=r"does not travel between processes: save it with .*save_world"):
        child.start()


def test_a_forked_process_still_has_a_world_in_memory(tiny_world: GenieWorldModel) -> None:
    pickled = pickle.dumps(WorldHandle(tiny_world))
    child = multiprocessing.get_context("fork").Process(target=pickle.loads, args=(pickled,))
    child.start()
    child.join(HANGS)
    assert child.exitcode == 0


def test_code_in_the_docs_that_starts_processes_names_the_module() -> None:
    """``gym.make("Genie-v0")`` is unknown to a process that has not imported genie_gym."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    modules = [
        path.read_text() for room in ("genie_gym", "agents", "experiments") for path in (ROOT / room).rglob("*.py")
    ]
    starts = re.compile(r'SubprocVecEnv|AsyncVectorEnv|"async"|VectorizeMode\.ASYNC|multiprocessing|ProcessPool')
    found = [text for text in blocks + modules if starts.search(text) and "Genie-v0" in text]
    assert any(block in found for block in blocks)
    assert [text for text in found if re.search("(?<!genie_gym:)Genie-v0", text)] == []
