"""The machine: its description, its matrix multiplication rate, and the memory of this process."""

import platform
import sys
from typing import Any

import torch

from genie_gym.bench.timing import measure
from genie_gym.serving import kernels
from genie_gym.system import describe_processor

_MEGABYTE = 2**20
"""Bytes in a megabyte."""


def matmul_tflops(dtype: torch.dtype, size: int, seconds: float, device: torch.device) -> float:
    """Return the TFLOP/s of multiplying two square matrices of ``size`` rows."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / measure(lambda: left @ right, seconds, device).seconds / 1e12


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return ``cpu``, ``device``, ``threads``, ``torch`` version, and whether compiled CPU ``kernels`` are in use."""
    return {
        "cpu": describe_processor().get("model name") or platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kernels": device.type == "cpu" and kernels.can_multiply(torch.float32),
    }


def peak_memory(device: torch.device, when: str) -> dict[str, float]:
    """Return the peak memory since the process began, in megabytes, under a key that names the moment.

    The key ``when`` has the resident memory of this process, which Windows does not tell; the key ``cuda_`` + ``when``
    has torch's memory on a GPU.
    """
    peaks = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peaks[when] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MEGABYTE
    if device.type == "cuda":
        peaks[f"cuda_{when}"] = torch.cuda.max_memory_allocated(device) / _MEGABYTE
    return peaks
