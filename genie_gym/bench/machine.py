"""The machine: its description, its matrix multiplication rate, and the memory of this process."""

import platform
from typing import Any

import torch

from genie_gym.bench.timing import Contender, Timing
from genie_gym.serving import kernels
from genie_gym.system import describe_processor, peak_resident, processor_flags

_MEGABYTE = 2**20
"""Bytes in a megabyte."""
_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""Processor flags, the widest instructions first, and their names in tables."""


def multiplying(dtype: torch.dtype, size: int, device: torch.device) -> Contender:
    """Return the product of two square matrices of ``size`` rows, as work to time."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Contender(lambda: left @ right)


def matmul_tflops(size: int, timing: Timing) -> float:
    """Return the TFLOP/s of a product of square matrices of ``size`` rows that was timed."""
    return 2 * size**3 / timing.seconds / 1e12


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return ``cpu``, ``device``, ``threads``, ``torch`` version, and whether compiled CPU ``kernels`` are in use.

    ``kind`` names the kind of machine in tables of speed: the processor, its widest instructions for products and the
    number of threads, or the GPU.
    """
    cpu = describe_processor().get("model name") or platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "cpu": cpu,
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kernels": device.type == "cpu" and kernels.can_multiply(torch.float32),
        "kind": _name_kind(cpu, torch.get_num_threads()) if name == "cpu" else name,
    }


def _name_kind(cpu: str, threads: int) -> str:
    flags = processor_flags()
    widest = next((words for flag, words in _INSTRUCTIONS.items() if flag in flags), "no AVX2")
    return f"{cpu}, {widest}, {threads} thread{'s' * (threads > 1)}"


def peak_memory(device: torch.device, when: str) -> dict[str, float]:
    """Return the peak memory since the process began, in megabytes, under a key that names the moment.

    The key ``when`` has the resident memory of this process, which Windows does not tell; the key ``cuda_`` + ``when``
    has torch's memory on a GPU.
    """
    resident = peak_resident()
    peaks = {} if resident is None else {when: resident / _MEGABYTE}
    if device.type == "cuda":
        peaks[f"cuda_{when}"] = torch.cuda.max_memory_allocated(device) / _MEGABYTE
    return peaks
