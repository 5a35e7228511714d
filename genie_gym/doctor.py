"""What a bug report needs to know: versions, machine, kernels, and how fast this machine plays."""

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Iterator

import torch

from genie_gym import __version__
from genie_gym.bench.environments import time_environments
from genie_gym.checks import require
from genie_gym.models.loading import digest_checkpoint, find_checkpoint, require_device
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.results.files import current_commit
from genie_gym.serving import build, libraries, load_world, native_precision
from genie_gym.serving.kernel_folder import KernelsUnavailableError, cache_folder
from genie_gym.serving.threads import kernel_threads
from genie_gym.system import KERNEL_FLAGS, count_cores, describe_processor, processor_flags, read_quota

_REASON_LINES = 8
"""Largest number of lines of a compiler's message."""


def examine(checkpoint: str = "coinrun", device: str = "cpu", seconds: float = 3.0) -> Iterator[tuple[str, str]]:
    """Yield name and value of each line of the report, as soon as it is known; what is broken is said in its line.

    Args:
        checkpoint: Name of a shipped checkpoint, or its folder.
        device: Torch device to play on.
        seconds: Time for measuring the speed.

    Raises:
        ValueError: If there is no such checkpoint or device, the checkpoint is damaged, or ``seconds`` is not positive.
    """
    require(0 < seconds < math.inf, "seconds", seconds, "a positive number")
    folder, device = find_checkpoint(checkpoint), require_device(device)
    load = _load_averages()
    yield from _describe_software()
    yield from _describe_machine(load)
    yield "compiler", _describe_compiler()
    try:
        yield "cache", str(cache_folder())
    except KernelsUnavailableError as error:
        yield "cache", str(error)
    world = load_world(checkpoint, device)
    yield "checkpoint", f"{checkpoint}, {digest_checkpoint(folder)}, {world.sampling().maskgit_steps} MaskGIT steps"
    yield "precision", _explain_precision(world)
    timing = time_environments(world, None, seconds)
    yield from _describe_kernels()
    parts = ", ".join(f"{part} {1e3 * spent:.1f}" for part, spent in timing.parts.items())
    yield "speed", f"{1e3 * timing.seconds:.1f} ms a frame ({parts}), {1 / timing.seconds:.1f} frames/s, on {device}"
    if load and load[0] >= count_cores() / 2:
        yield "warning", f"other programs are busy here (load {load[0]:.1f}): an idle machine plays faster"


def _describe_software() -> Iterator[tuple[str, str]]:
    commit = current_commit()
    yield "genie-gym", __version__ if commit is None else f"{__version__}, commit {commit}"
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "gymnasium"))
    yield "versions", f"Python {platform.python_version()}, torch {torch.__version__}, {others}"
    yield "system", platform.platform()


def _describe_machine(load: tuple[float, ...]) -> Iterator[tuple[str, str]]:
    yield "processor", describe_processor().get("model name") or platform.processor() or platform.machine()
    flags = [[flag for flag in KERNEL_FLAGS if (flag in processor_flags()) == is_there] for is_there in (True, False)]
    yield (
        "flags",
        "; ".join(f"{verb} {', '.join(some)}" for verb, some in zip(("has", "lacks"), flags, strict=True) if some),
    )
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    yield "GPU", f"{', '.join(gpus) or 'none'}; {built}; mps {'yes' if torch.backends.mps.is_available() else 'no'}"
    quota = read_quota()
    limit = "" if quota is None else f", {quota:g} of them at a time"
    numbers = f"{torch.get_num_threads()} of torch, {kernel_threads()} of the kernels"
    yield "threads", f"{numbers}; this process may use {count_cores()} cores{limit}"
    settings = (f"{name}={os.environ.get(name, '(not set)')}" for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"))
    yield "settings", ", ".join([*settings, f"{build.SWITCH}={os.environ.get(build.SWITCH, '(not set)')}"])
    yield "load", ", ".join(f"{average:.2f}" for average in load) + " in 1, 5, 15 minutes" if load else "unknown"


def _describe_compiler() -> str:
    try:
        done = subprocess.run(
            [*build.find_compiler(), "--version"], check=False, capture_output=True, text=True, errors="replace"
        )
    except (KernelsUnavailableError, OSError) as error:
        return str(error)
    version = (done.stdout or done.stderr).strip().splitlines()[:1]
    return f"{build.compiler_command()}: {''.join(version) or 'says no version'}"


def _describe_kernels() -> Iterator[tuple[str, str]]:
    library = libraries.rows_library()  # not loaded yet if the device is a GPU
    for wanted, outcome in build.OUTCOMES.items():
        yield "kernels", "\n".join(f"{wanted}: {outcome}".splitlines()[:_REASON_LINES])
    if library is None:
        yield "tiles", "none without kernels: PyTorch alone plays"
    elif library.genie_has_tiles():
        yield "tiles", "used (AMX)"
    else:
        yield "tiles", "not used, although the processor has AMX" if "amx_bf16" in processor_flags() else "no AMX here"


def _explain_precision(world: GenieWorldModel) -> str:
    """Return the precision of a world, and why ``auto`` chooses that or another."""
    precision, auto = str(world.dynamics.precision).removeprefix("torch."), native_precision(world.device)
    if auto == "float32":
        reason = "nothing shorter is faster and right on this machine"
    elif world.device.type == "cpu":
        reason = f"the processor has {', '.join(flag for flag in KERNEL_FLAGS[2:] if flag in processor_flags())}"
    else:
        reason = "the GPU computes in it"
    is_auto = world.config.precision == "auto"
    by = "chosen by auto" if is_auto else f"as the checkpoint says; auto would choose {auto}"
    return f"{precision}, {by}: {reason}"


def _load_averages() -> tuple[float, ...]:
    """Return the load averages of 1, 5 and 15 minutes; nothing on Windows."""
    return os.getloadavg() if hasattr(os, "getloadavg") else ()
