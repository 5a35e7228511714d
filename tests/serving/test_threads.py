"""Threads: forked processes, the kernels' own threads, and PyTorch on one thread beside them."""

import copy
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import prepare, threads
from genie_gym.serving.build import SWITCH
from genie_gym.serving.libraries import multiply, rows_library
from genie_gym.serving.threads import kernel_threads, torch_on_one_thread

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run_with_two_threads(code: str, checkpoint: Path, kernels: str = "on") -> str:
    """Run Python code in a process of its own, with two threads of PyTorch that are in use; return what it prints."""
    start = "import sys, torch; torch.set_num_threads(2); torch.rand(2000, 2000).exp(); checkpoint = sys.argv[1]\n"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", start + code, str(checkpoint)],
        env={**settings, SWITCH: kernels},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,  # only a hang takes that long
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_fork
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_forked_environments_play_after_a_step_in_the_parent(tiny_checkpoint: Path, kernels: str) -> None:
    """A fork copies no threads: children that waited for those of the parent would hang."""
    code = """
import gymnasium as gym, numpy as np
make = lambda mode: gym.make_vec("genie_gym:Genie-v0", num_envs=2, vectorization_mode=mode, checkpoint=checkpoint)
here = make("sync")
here.reset(seed=0)
forked = make("async")
assert np.array_equal(forked.reset(seed=0)[0], here.reset(seed=0)[0])
assert np.array_equal(forked.step([0, 1])[0], here.step([0, 1])[0])
forked.close()
print("played")
"""
    assert "played" in run_with_two_threads(code, tiny_checkpoint, kernels)


@needs_fork
def test_a_forked_process_plays_if_its_parent_knew_only_pytorch(tiny_checkpoint: Path) -> None:
    code = """
import os
child = os.fork()
if child == 0:
    import gymnasium as gym
    env = gym.make("genie_gym:Genie-v0", checkpoint=checkpoint)
    env.reset(seed=0)
    env.step(0)
    os._exit(0 if torch.get_num_threads() == 1 else 3)
print("status", os.waitpid(child, 0)[1])
"""
    assert "status 0" in run_with_two_threads(code, tiny_checkpoint)


@needs_fork
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_more_threads_after_a_fork_are_refused_and_not_waited_for(tiny_checkpoint: Path, kernels: str) -> None:
    code = """
import os, genie_gym
world = genie_gym.load(checkpoint)
videos = torch.rand(1, 2, 3, world.config.height, world.config.width)
state, _ = world.reset(videos, [0])
torch.rand(2000, 2000).exp()  # PyTorch has threads to lose
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    step = lambda: world.step(state, torch.tensor([0]))
    for play in (step, lambda: world.reset(videos, [0]), lambda: world.label(videos)):
        try:
            play()
        except RuntimeError as error:
            assert "must be 1 in a process that was forked after PyTorch was loaded, got 2" in str(error)
        else:
            os._exit(3)
    torch.set_num_threads(1)
    world.reset(videos, [0])
    os._exit(0)
print("status", os.waitpid(child, 0)[1])
"""
    assert "status 0" in run_with_two_threads(code, tiny_checkpoint, kernels)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_of_pytorch_is_this_threads_alone(two_threads: None) -> None:
    """Also if the block ends with an error; other threads, even those that start meanwhile, keep their number."""
    seen: list[int] = []

    def look() -> None:
        assert torch.get_num_threads() == 1
        assert kernel_threads() == 2
        with torch_on_one_thread():
            assert kernel_threads() == 2
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        raise KeyError

    with pytest.raises(KeyError), torch_on_one_thread():
        look()
    assert seen == [2]
    assert torch.get_num_threads() == kernel_threads() == 2


def test_a_packed_world_plays_with_pytorch_on_one_thread(
    two_threads: None, tiny_world: GenieWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = prepare(copy.deepcopy(tiny_world), "float32")
    state, _ = world.reset(torch.rand(1, 1, 3, world.config.height, world.config.width), [0])
    seen: list[tuple[int, int]] = []
    draw = world.draw_tokens
    monkeypatch.setattr(
        world, "draw_tokens", lambda *args: (seen.append((torch.get_num_threads(), kernel_threads())), draw(*args))[1]
    )
    world.step(state, torch.tensor([0]))
    assert set(seen) == {(1, 2)}


@pytest.mark.parametrize(("quota", "number"), [(None, 2), (0.5, 1), (1.5, 2), (64, 2)])
def test_a_containers_quota_limits_the_kernels_threads(
    two_threads: None, monkeypatch: pytest.MonkeyPatch, quota: float | None, number: int
) -> None:
    monkeypatch.setattr(threads, "read_quota", lambda: quota)
    monkeypatch.setattr(threads, "_most_threads", threads._most_threads.__wrapped__)
    assert kernel_threads() == number


@pytest.fixture
def factors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(700, 64, generator=generator), torch.randn(500, 64, generator=generator)


@pytest.mark.parametrize("number", [2, 3, 16, 100])
def test_threads_do_not_change_a_product(factors: tuple[Tensor, Tensor], number: int) -> None:
    """Also many more threads than cores: most come late or never, and the others do their work."""
    alone = multiply(*factors, None, rows_library())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number)
        assert all(torch.equal(multiply(*factors, None, rows_library()), alone) for _ in range(100))
    finally:
        torch.set_num_threads(before)


def test_kernels_may_be_called_from_several_threads_at_once(two_threads: None, factors: tuple[Tensor, Tensor]) -> None:
    features, weight = factors
    alone = [multiply(features + number, weight, None, rows_library()) for number in range(4)]

    def repeat(number: int) -> bool:
        torch.set_num_threads(3)
        return all(
            torch.equal(multiply(features + number, weight, None, rows_library()), alone[number]) for _ in range(100)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(4)))


def test_threads_without_work_sleep(two_threads: None, factors: tuple[Tensor, Tensor]) -> None:
    multiply(*factors, None, rows_library())
    time.sleep(0.1)  # threads of PyTorch may spin for some milliseconds
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.5


def test_threads_of_pytorch_end_beside_the_kernels_and_start_again(tiny_checkpoint: Path) -> None:
    """OpenMP's threads would spin for milliseconds in the kernels' way."""
    code = """
import os
from genie_gym.serving.threads import torch_on_one_thread
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
with torch_on_one_thread():
    inside = count()
torch.rand(2000, 2000).exp()
print(before - inside, count() - before)
"""
    assert run_with_two_threads(code, tiny_checkpoint).split() == ["1", "0"]
