"""Tests that importing and playing with PyTorch alone needs nothing that only Linux has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PRETEND = """
import errno, os, pathlib, platform, sys
import av, gymnasium, h5py, numpy, psutil, rich, safetensors.torch, tensorboard, torch, tqdm, tyro

system, checkpoint = sys.argv[1:]
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # importing it raises an ImportError
for name in ("fork", "geteuid", "getuid", "register_at_fork", "sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
platform.system, sys.platform = lambda: system, {"Darwin": "darwin", "Windows": "win32"}[system]

def refuse_proc(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(errno.ENOENT, "no /proc", arguments[0])

def stat_without_proc(path, *arguments, linux_stat=os.stat, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(errno.ENOENT, "no /proc", path)
    return linux_stat(path, *arguments, **options)

sys.addaudithook(refuse_proc)
os.stat = pathlib.Path.stat = stat_without_proc  # Python 3.10 keeps a reference in pathlib
"""
"""Code that takes Linux from a process, after the libraries were imported, which were built for it."""

PLAY = """
import importlib, pkgutil
import genie_gym

OPTIONAL = {"stable_baselines3", "starlette", "uvicorn", "websockets"} | {"msvcrt"}  # which click asks for here
for module in pkgutil.walk_packages(genie_gym.__path__, "genie_gym."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise

from genie_gym.serving import kernels
assert not kernels.can_multiply(torch.float32)
env = gymnasium.make("genie_gym:Genie-v0", checkpoint=checkpoint)
first, _ = env.reset(seed=0)
second, *_ = env.step(1)
assert first.shape == second.shape == (*env.unwrapped.observation_space.shape,) and (first != second).any()
envs = gymnasium.make_vec("genie_gym:Genie-v0", num_envs=2, checkpoint=checkpoint)
envs.reset(seed=0)
envs.step(numpy.array([0, 1]))

from genie_gym.bench.machine import describe_machine
assert describe_machine(torch.device("cpu"))["kernels"] is False

from genie_gym import cli
sys.argv = ["genie-gym", "--help"]
cli.main()
"""

PEAK = """
from genie_gym.bench.machine import peak_memory
assert peak_memory(torch.device("cpu"), "loaded") == {}
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_import_and_play_without_linux(system: str, tiny_checkpoint: Path) -> None:
    done = run(PRETEND + PLAY, system, str(tiny_checkpoint))
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout, "the help lists the commands"
    assert "Compiling" not in done.stderr


def test_windows_tells_no_peak_memory(tiny_checkpoint: Path) -> None:
    done = run(PRETEND + PEAK, "Windows", str(tiny_checkpoint))
    assert done.returncode == 0, done.stderr


def test_playing_imports_no_compiler_of_torch() -> None:
    """Importing ``torch._dynamo`` takes as long as importing the rest of torch, and as long again at exit."""
    done = run("import sys, genie_gym.envs.genie_env; print('torch._dynamo' in sys.modules, 'torch' in sys.modules)")
    assert done.stdout.split() == ["False", "True"], done.stderr
