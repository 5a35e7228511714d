"""Speed and memory of a training run for TensorBoard: tokens a second, share of the device's peak, peak memory."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from genie_gym.system import peak_resident

_PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "MI300X": 1307,
}
"""Part of a GPU's name -> dense bfloat16 operations a second in its data sheet, in 10^12; the first fit counts."""


def find_peak(device: torch.device, precision: str) -> float | None:
    """Return the operations a second of which a device is capable in a precision; ``None`` if they are not known."""
    if device.type != "cuda" or precision != "bfloat16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for part, peak in _PEAK_TFLOPS.items() if part in name), None)


class FlopCounter(TorchDispatchMode):
    """Counts the operations of a training step in its forward pass: thrice with gradients, once without.

    A backward pass takes twice its forward pass. What activation checkpointing computes again does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += (3 if torch.is_grad_enabled() else 1) * int(count(*args, **kwargs, out_val=result))
        return result


@dataclass
class Meter:
    """Measures a run between the steps that are logged."""

    device: torch.device
    """device of this rank"""
    peak: float | None = None
    """operations a second of all ranks' devices together, if known"""
    flops: int = 0
    """operations of all ranks in a step, if counted"""
    _since: float | None = field(default=None, init=False)
    _steps: int = field(default=0, init=False)

    def count(self, frames: int, tokens: int) -> dict[str, Tensor]:
        """Return the speed since the last call, in tokens and frames of all ranks a second, and the peak memory.

        The first call only begins: the first step also loads, compiles and allocates.

        Args:
            frames: Number of frames in a step of all ranks.
            tokens: Number of tokens in a step of all ranks, 0 if frames have none.
        """
        now, values = time.perf_counter(), {"memory/peak_gb": read_peak(self.device) / 1e9}
        if self._since is not None and self._steps:
            rate = self._steps / (now - self._since)
            values["speed/frames_per_second"] = rate * frames
            if tokens:
                values["speed/tokens_per_second"] = rate * tokens
            if self.peak and self.flops:
                values["speed/mfu"] = rate * self.flops / self.peak
        self._since, self._steps = now, 0
        return {name: torch.tensor(value) for name, value in values.items()}

    def tick(self) -> None:
        """Count a step."""
        self._steps += 1


def read_peak(device: torch.device) -> int:
    """Return the largest number of bytes since the last call in a GPU's memory, or ever in a process's on a CPU."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    return peak_resident() or 0
