"""Passes of sharded weights on one of two processes, beside their plan; a module, since torchrun starts it.

Resident memory is measured: PyTorch's profiler does not see what the threads of gloo free. The C library has to give
freed memory back at once, as ``MALLOC_MMAP_THRESHOLD_`` makes it.
"""

import sys
from pathlib import Path

import torch

from experiments.ablations.plans import give_weights, small_preset
from genie_gym.config_io import vary
from genie_gym.data.clips import Batch
from genie_gym.plan.memory import build_phases, count_state, measure_step
from genie_gym.training.distributed import join_ranks
from genie_gym.training.sharding import parallelise

_DYNAMICS = {"layers": 8, "width": 256, "heads": 4, "head_dim": 64, "feed_forward_width": 512}
"""Weights that take as much memory as the activations of a clip of four frames."""
_FRAMES, _PASSES = 4, 2


def compare_shards(is_checkpointed: bool, precision: str) -> list[int]:
    """Return the bytes of gathered weights and activations that are planned, and those by which memory rises."""
    changes = {f"world.dynamics.transformer.{name}": value for name, value in _DYNAMICS.items()}
    training = {"clip_length": _FRAMES, "batch_size": 2, "sharding": "fsdp", "checkpoint_blocks": is_checkpointed}
    changes |= {f"world_training.{name}": value for name, value in training.items()}
    *_, phase = build_phases(vary(small_preset(precision), changes))
    with join_ranks("cpu") as (ranks, _):
        gathered = count_state(phase, ranks.size, is_sharded=True, is_checkpointed=is_checkpointed).gathered
        planned = gathered + measure_step(phase, 1, is_checkpointed, is_fused=False).activations
        trainee, size = give_weights(phase).trainee, (phase.world.config.height, phase.world.config.width)
        trainee.set_precision(precision)
        engine = parallelise(trainee, phase.config, ranks, torch.device("cpu"))
        engine.module.train()

        def run_pass() -> None:
            batch = Batch(torch.rand(1, _FRAMES, 3, *size), torch.arange(1))
            engine.call(batch).loss.backward()

        run_pass()
        run_pass()  # the first two allocate what stays, such as gradients
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        for _ in range(_PASSES):
            run_pass()
        return [planned, _resident("VmHWM") - before]


def _resident(field: str) -> int:
    """Return the present (VmRSS) or largest (VmHWM) number of bytes in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    told = compare_shards(sys.argv[1] == "True", sys.argv[2])
    sys.stdout.write(f"bytes {told[0]} {told[1]}\n")
