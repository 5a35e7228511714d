"""Choice of the precision in which a device plays worlds fastest."""

import torch

from genie_gym.serving import kernels
from genie_gym.system import processor_flags


def native_precision(device: torch.device) -> str:
    """Return the precision in which a device plays worlds fastest: ``bfloat16``, ``float16`` or ``float32``.

    It is ``bfloat16`` on a GPU and on a CPU with instructions for it. Intel CPUs that multiply float16 but have no AMX
    tiles, or may not use them, take twice as long in bfloat16 as in float32. They play in ``float16``, which only the
    compiled kernels multiply, or without kernels in ``float32``.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    flags = processor_flags()
    if "avx512_fp16" in flags and "amx_bf16" not in flags:
        return "float16" if kernels.can_multiply(torch.float16) else "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & flags else "float32"
