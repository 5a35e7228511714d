"""Choice of the precision in which a model is trained fastest on a device."""

import statistics
import time
from collections.abc import Callable

import torch

from genie_gym.serving import native_precision

_ROUNDS = 5
"""Number of timed rounds: one step in each precision, one right after the other."""
_SECONDS = 60.0
"""Time after which no further round begins."""
_GAIN = 0.9
"""Largest ratio of the times of a step in bfloat16 and in float32 at which bfloat16 is chosen."""


def fastest_precision(device: torch.device, step: Callable[[str, int], object]) -> tuple[str, str]:
    """Return the precision in which a device takes a training step fastest, and the reason in words.

    Where a device plays fastest in float32 (see ``serving.native_precision``) it trains so too, and a GPU that has
    bfloat16 trains in it. Only on a CPU with instructions for bfloat16 are steps timed: with small networks or
    few instructions they may take as long as in float32. The median of the ratios of a few rounds decides, so that
    other work on the machine, which slows both steps of a round or a few single ones, hardly matters.

    Args:
        device: Device of the training.
        step: Takes a training step in the precision given first; the second argument is the round, which seeds it.
    """
    native = native_precision(device)
    if device.type != "cpu" or native == "float32":
        return native, f"as a {device.type} of this kind computes"
    began, ratios = time.perf_counter(), list[float]()
    while len(ratios) <= _ROUNDS and (len(ratios) < 2 or time.perf_counter() - began < _SECONDS):
        seconds = [_time(step, precision, len(ratios)) for precision in ("float32", "bfloat16")]
        ratios.append(seconds[1] / seconds[0])
    ratio = statistics.median(ratios[1:])  # the first round compiles kernels and allocates memory
    return "bfloat16" if ratio <= _GAIN else "float32", f"a step in bfloat16 takes {ratio:.2f} of one in float32"


def _time(step: Callable[[str, int], object], precision: str, number: int) -> float:
    started = time.perf_counter()
    step(precision, number)
    return time.perf_counter() - started
