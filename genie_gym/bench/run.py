"""All measurements of ``genie-gym bench``, one after the other, as one JSON-able dictionary."""

from collections.abc import Callable
from typing import Any

import torch

from genie_gym.bench.config import BenchConfig
from genie_gym.bench.environments import busy_neighbour, run_gymnasium_benchmarks, time_environments, torch_env_fps
from genie_gym.bench.machine import describe_machine, matmul_tflops, peak_memory
from genie_gym.bench.operations import step_operations
from genie_gym.bench.training import list_jobs, time_training
from genie_gym.bench.worlds import cached_fps, fps_by_kernels, labelling_fps, uncached_fps
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world

_SHARE_ENVS = 16
"""Number of environments for which ``serving_share`` is reported."""
_ALONE = "alone"
"""Key of ``gym.make`` among the numbers of environments of ``gym.make_vec``."""


def run_bench(config: BenchConfig, report: Callable[[str], object] = lambda stage: None) -> dict[str, Any]:
    """Run all measurements.

    The matrix rate is measured before and after the environments and the better one counts, so that other work on the
    machine lowers the shares and never raises them. Environments come before training, so that the peak of the
    process's memory is theirs.

    Args:
        config: The measurements to make, and the time for each.
        report: Called with the name of each stage as it begins.

    Returns:
        ``checkpoint``, ``maskgit_steps``, ``machine``, ``step_gflop`` (useful operations per generated frame),
        ``matmul_tflops``, ``labelling_fps``, ``peak_memory_mb`` and ``gymnasium``. By number of environments (``alone``
        is ``gym.make``): ``env_fps``; ``busy_env_fps``, frames/s beside another process that is always busy;
        ``env_split``, milliseconds per step of all of them, by part; ``serving_share_by_envs``, useful operations per
        second relative to the bfloat16 matrix rate. ``serving_share`` is that of 16 environments, or else of the
        largest number; ``serving_share_of_fastest`` is relative to the faster precision. By batch size of the world
        itself: ``cached_fps``, ``uncached_fps`` and their ratio ``cached_over_uncached_by_rows``;
        ``cached_over_uncached`` is that of the largest batch. By MaskGIT steps, then batch size: ``by_maskgit_steps``.
        By kernels (see ``fps_by_kernels``), then batch size: ``by_kernels``. By model, then width: ``training_fps``,
        ``training_fps_float32``, ``training_share`` and ``training_parameters``. On a GPU alone, by number of
        environments of ``GenieTorchEnv``: ``torch_env_fps`` and ``torch_env_share``; and by model, then width, with
        compiled transformers: ``training_compiled_fps`` and ``training_compiled_share``.

    Raises:
        ValueError: If there is no such checkpoint or device.
    """
    world = load_world(config.checkpoint, config.device)
    steps, precision = world.sampling().maskgit_steps, str(world.dynamics.precision).removeprefix("torch.")
    results: dict[str, Any] = {
        "checkpoint": config.checkpoint,
        "maskgit_steps": steps,
        "machine": {**describe_machine(world.device), "precision": precision},
        "step_gflop": step_operations(world.config, steps) / 1e9,
    }
    matrices = _measure_matrices(config, world.device, report)
    results |= _measure_environments(world, config, report)
    results |= _measure_world(world, config, report)
    again = _measure_matrices(config, world.device, report)
    results["matmul_tflops"] = {name: max(rate, again[name]) for name, rate in matrices.items()}
    bfloat16 = results["matmul_tflops"]["bfloat16"]
    tflop = results["step_gflop"] / 1e3
    shares = {count: fps * tflop / bfloat16 for count, fps in results["env_fps"].items()}
    results["serving_share_by_envs"] = shares
    if "torch_env_fps" in results:
        rates = results["torch_env_fps"]
        results["torch_env_share"] = {count: fps * tflop / bfloat16 for count, fps in rates.items()}
    results["serving_share"] = shares.get(str(_SHARE_ENVS), shares[str(max(config.num_envs))])
    results["serving_share_of_fastest"] = results["serving_share"] * bfloat16 / max(results["matmul_tflops"].values())
    return results | _measure_training(config, world.device, bfloat16, report)


def _measure_matrices(config: BenchConfig, device: torch.device, report: Callable[[str], object]) -> dict[str, float]:
    report("matrix products")
    return {
        str(dtype).removeprefix("torch."): matmul_tflops(dtype, config.matrix, config.seconds, device)
        for dtype in (torch.bfloat16, torch.float32)
    }


def _measure_environments(
    world: GenieWorldModel, config: BenchConfig, report: Callable[[str], object]
) -> dict[str, Any]:
    memory = peak_memory(world.device, "loaded")
    fps, busy_fps, split = {}, {}, {}
    for count in (None, *sorted(set(config.num_envs))):
        name = _ALONE if count is None else str(count)
        report(f"Genie-v0: {name}")
        whole, parts = time_environments(world, count, config.seconds)
        fps[name] = (1 if count is None else count) / whole
        split[name] = {part: 1e3 * seconds for part, seconds in parts.items()}
        with busy_neighbour():
            busy_fps[name] = (1 if count is None else count) / time_environments(world, count, config.seconds).seconds
    memory |= peak_memory(world.device, "playing")
    on_device: dict[str, Any] = {}
    if world.device.type == "cuda":
        report("GenieTorchEnv")
        counts = sorted(set(config.device_envs))
        on_device = {"torch_env_fps": {str(count): torch_env_fps(world, count, config.seconds) for count in counts}}
    report("Gymnasium's benchmarks")
    rates = run_gymnasium_benchmarks(world, config.seconds)
    results = {"env_fps": fps, "busy_env_fps": busy_fps, "env_split": split, "peak_memory_mb": memory}
    return results | on_device | {"gymnasium": rates}


def _measure_world(world: GenieWorldModel, config: BenchConfig, report: Callable[[str], object]) -> dict[str, Any]:
    report("with and without the KV cache")
    rows = sorted(set(config.rows))
    cached, uncached = {}, {}
    for count in rows:
        cached[str(count)] = cached_fps(world, count, config.seconds)
        uncached[str(count)] = uncached_fps(world, count, config.seconds)
    gains = {count: cached[count] / uncached[count] for count in cached}
    report("MaskGIT steps")
    by_steps = {
        str(steps): {str(count): cached_fps(world, count, config.seconds, steps) for count in rows}
        for steps in sorted(set(config.maskgit_steps))
    }
    by_kernels: dict[str, Any] = {}
    if world.device.type == "cpu":
        report("kernels on and off")
        by_kernels = {"by_kernels": fps_by_kernels(world, rows, config.seconds)}
    report("labelling")
    return {
        "cached_fps": cached,
        "uncached_fps": uncached,
        "cached_over_uncached_by_rows": gains,
        "cached_over_uncached": gains[str(rows[-1])],
        "by_maskgit_steps": by_steps,
        **by_kernels,
        "labelling_fps": labelling_fps(world, config.seconds),
    }


def _measure_training(
    config: BenchConfig, device: torch.device, matmul: float, report: Callable[[str], object]
) -> dict[str, Any]:
    results: dict[str, dict[str, dict[str, float]]] = {}
    for job in list_jobs(config.widths, config.layers):
        report(f"training: {job.model}, width {job.width}")
        speed, width = time_training(job, config, device), str(job.width)
        figures = {"fps": speed.fps, "fps_float32": speed.fps_float32, "share": speed.tflops / matmul}
        figures["parameters"] = speed.parameters
        if device.type == "cuda":
            compiled = time_training(job, config, device, is_compiled=True)
            figures |= {"compiled_fps": compiled.fps, "compiled_share": compiled.tflops / matmul}
        for name, value in figures.items():
            results.setdefault(f"training_{name}", {}).setdefault(job.model, {})[width] = value
    return results
