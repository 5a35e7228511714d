"""All measurements of ``genie-gym bench``, one after the other, as one JSON-able dictionary."""

from collections.abc import Callable
from typing import Any

import torch

from genie_gym.bench.config import BenchConfig
from genie_gym.bench.environments import busy_neighbour, playing, run_gymnasium_benchmarks, torch_env_fps
from genie_gym.bench.machine import describe_machine, matmul_tflops, multiplying, peak_memory
from genie_gym.bench.operations import part_operations
from genie_gym.bench.parts import time_encoding, time_parts
from genie_gym.bench.timing import Contender, Timing, compare
from genie_gym.bench.training import list_jobs, time_training
from genie_gym.bench.worlds import compare_engines, generating, labelling_fps, stepping
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.real_actions import RealActionConfig
from genie_gym.serving import load_world

_ALONE = "alone"
"""Key of ``gym.make`` among the numbers of environments of ``gym.make_vec``."""

_Report = Callable[[str], object]


def run_bench(config: BenchConfig, report: _Report = lambda stage: None) -> dict[str, Any]:
    """Run all measurements.

    What is compared runs in turn, with a matrix product in the same rounds, and the median of each counts. Environments
    come before training, so that the peak of the process's memory is theirs.

    Args:
        config: The measurements to make, and the time for each.
        report: Called with the name of each stage as it begins.

    Returns:
        ``checkpoint``, ``maskgit_steps``, ``machine``, ``labelling_fps``, ``peak_memory_mb`` and ``gymnasium``;
        ``step_gflop``, useful operations per generated frame, and ``part_gflop``, the same by part; ``matmul_tflops``
        by precision. ``environments`` by number (``alone`` is ``gym.make``): ``fps``; ``busy_fps``, frames/s beside
        another process that is always busy; ``cpu_ms``, processor time of a frame; ``matmul_tflops`` of the same rounds
        in the world's precision, and ``share``, useful operations per second relative to it. ``parts``, milliseconds of
        a frame by number of environments and part, and ``encode_ms``, those of a frame of a prompt. By batch size of
        the world itself: ``cached_fps``, ``uncached_fps``, their ratio ``cached_over_uncached``; ``engines``, with
        ``matmul_tflops`` of the same rounds and, by engine, ``fps`` and ``cpu_ms``. ``by_maskgit_steps``, then batch
        size: frames/s. By model, then width: ``training_fps``, ``training_fps_float32``, ``training_share`` and
        ``training_parameters``. On a GPU alone, by number of environments of ``GenieTorchEnv``: ``torch_env_fps`` and
        ``torch_env_share``; and by model, then width, with compiled transformers: ``training_compiled_fps`` and
        ``training_compiled_share``.

    Raises:
        ValueError: If there is no such checkpoint or device.
    """
    world = load_world(config.checkpoint, config.device)
    steps, precision = world.sampling().maskgit_steps, str(world.dynamics.precision).removeprefix("torch.")
    gflop = {part: count / 1e9 for part, count in part_operations(world.config, steps).items() if count}
    results: dict[str, Any] = {
        "checkpoint": config.checkpoint,
        "maskgit_steps": steps,
        "machine": {**describe_machine(world.device), "precision": precision},
        "step_gflop": sum(gflop.values()),
        "part_gflop": gflop,
    }
    matrix = multiplying(world.dynamics.precision, config.matrix, world.device)
    results |= _measure_environments(world, config, matrix, results["step_gflop"], report)
    results |= _measure_parts(world, config, report)
    results |= _measure_world(world, config, matrix, report)
    rates = results["matmul_tflops"] = _measure_matrices(config, world.device, report)
    if "torch_env_fps" in results:
        tflop = results["step_gflop"] / 1e3 / rates[precision]
        results["torch_env_share"] = {count: fps * tflop for count, fps in results["torch_env_fps"].items()}
    return results | _measure_training(config, world.device, rates["bfloat16"], report)


def _measure_matrices(config: BenchConfig, device: torch.device, report: _Report) -> dict[str, float]:
    report("matrix products")
    dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    works = {name: multiplying(dtype, config.matrix, device) for name, dtype in dtypes.items()}
    timings = compare(works, config.seconds, device)
    return {name: matmul_tflops(config.matrix, timing) for name, timing in timings.items()}


def _measure_environments(
    world: GenieWorldModel, config: BenchConfig, matrix: Contender, gflop: float, report: _Report
) -> dict[str, Any]:
    memory, rows = peak_memory(world.device, "loaded"), {}
    for number in (None, *sorted(set(config.num_envs))):
        name, count = (_ALONE, 1) if number is None else (str(number), number)
        report(f"Genie-v0: {name}")
        with playing(world, number) as step:
            works = {"idle": Contender(step), "busy": Contender(step, busy_neighbour), "matrix": matrix}
            timings = compare(works, config.seconds, world.device)
        fps, rate = count / timings["idle"].seconds, matmul_tflops(config.matrix, timings["matrix"])
        rows[name] = {
            "fps": fps,
            "busy_fps": count / timings["busy"].seconds,
            "cpu_ms": _processor_ms(timings["idle"], count),
            "matmul_tflops": rate,
            "share": fps * gflop / 1e3 / rate,
        }
    memory |= peak_memory(world.device, "playing")
    on_device: dict[str, Any] = {}
    if world.device.type == "cuda":
        report("GenieTorchEnv")
        counts = sorted(set(config.device_envs))
        on_device = {"torch_env_fps": {str(count): torch_env_fps(world, count, config.seconds) for count in counts}}
    report("Gymnasium's benchmarks")
    rates = run_gymnasium_benchmarks(world, config.seconds)
    return {"environments": rows, "peak_memory_mb": memory, **on_device, "gymnasium": rates}


def _measure_parts(world: GenieWorldModel, config: BenchConfig, report: _Report) -> dict[str, Any]:
    report("parts of a frame")
    counts = sorted(set(config.profiled))
    return {
        "parts": {str(count): time_parts(world, count, config.seconds) for count in counts},
        "encode_ms": {str(count): time_encoding(world, count, config.seconds) for count in counts},
    }


def _measure_world(world: GenieWorldModel, config: BenchConfig, matrix: Contender, report: _Report) -> dict[str, Any]:
    cached, uncached, engines = {}, {}, {}
    steps = {str(number): number for number in sorted(set(config.maskgit_steps))}
    by_steps: dict[str, dict[str, float]] = {name: {} for name in steps}
    for count in sorted(set(config.rows)):
        report(f"KV cache, MaskGIT steps and engines: batches of {count}")
        works = {"cached": Contender(stepping(world, count)), "uncached": Contender(generating(world, count))}
        timings = compare(works, config.seconds, world.device)
        cached[str(count)], uncached[str(count)] = (count / timings[name].seconds for name in works)
        works = {name: Contender(stepping(world, count, number)) for name, number in steps.items()}
        for name, timing in compare(works, config.seconds, world.device).items():
            by_steps[name][str(count)] = count / timing.seconds
        if world.device.type == "cpu":
            timings = compare_engines(world, count, config.seconds, matrix, config.compiler)
            rate = matmul_tflops(config.matrix, timings.pop("matrix"))
            figures = {
                name: {"fps": count / timing.seconds, "cpu_ms": _processor_ms(timing, count)}
                for name, timing in timings.items()
            }
            engines[str(count)] = {"matmul_tflops": rate, "by_engine": figures}
    is_real = isinstance(world.config.latent_action_model, RealActionConfig)
    if not is_real:
        report("labelling")
    return {
        "cached_fps": cached,
        "uncached_fps": uncached,
        "cached_over_uncached": {count: cached[count] / uncached[count] for count in cached},
        "by_maskgit_steps": by_steps,
        **({"engines": engines} if engines else {}),
        **({} if is_real else {"labelling_fps": labelling_fps(world, config.seconds)}),
    }


def _processor_ms(timing: Timing, count: int) -> float:
    """Return the processor's milliseconds of each of ``count`` frames."""
    return 1e3 * timing.processor / count


def _measure_training(config: BenchConfig, device: torch.device, matmul: float, report: _Report) -> dict[str, Any]:
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
