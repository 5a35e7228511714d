"""Choice of the precision in which a device plays worlds fastest."""

import torch

from genie_gym.serving import kernels
from genie_gym.system import processor_flags


def native_precision(device: torch.device) -> str:
    """Return the precision in which a device plays worlds fastest: ``bfloat16`` or ``float32``.

    It is ``bfloat16`` on GPUs and CPUs with instructions for it. Intel CPUs with AVX512-FP16 take twice as long in
    bfloat16 as in float32 if they have no AMX tiles, or may not use them: those play in ``float32``.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    flags = processor_flags()
    if "avx512_fp16" in flags and not ("amx_bf16" in flags and kernels.may_use_tiles()):
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & flags else "float32"
