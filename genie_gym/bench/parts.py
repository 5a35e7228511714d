"""The time of a frame by part, while agents play ``Genie-v0``."""

import contextlib
import copy
from collections.abc import Iterator
from ctypes import c_int64
from typing import Any
from unittest import mock

import torch

from genie_gym.bench.environments import playing
from genie_gym.bench.timing import measure, time_methods
from genie_gym.models import world_model
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import prepare, step_kernel
from genie_gym.serving.libraries import transformer_library

LAPS = ("norms", "products", "attention in space", "attention in time", "copies")
"""Parts of the transformer's step that its library times, in the order of laps.h, which has the whole call last."""
PLAYED_PARTS = ("embed", *LAPS, "film", "transformer, rest", "logits", "draws", "decode", "environment")
"""Parts of a frame, in the order of a step."""
_PROMPT_FRAMES = 4


def time_parts(world: GenieWorldModel, num_envs: int, seconds: float) -> dict[str, float]:
    """Return the milliseconds of a frame by part, in ``num_envs`` environments of ``gym.make_vec``; they add up.

    Parts that the world lacks are left out. Without the kernel of a whole step, ``transformer, rest`` is the whole
    transformer. ``film`` is the computation of modulated norms, ``draws`` includes the random numbers and the choice of
    the tokens to keep, and ``environment`` is everything outside of the other parts. Parts that the library times are
    summed over threads, and scaled to the time of its calls.

    Args:
        world: World on its device; a copy of it plays.
        num_envs: Number of environments.
        seconds: Time for the measurement, as in ``measure``.
    """
    device = world.device
    with (
        _profiling(world) as own,
        time_methods(_find_methods(own), device) as spent,
        _adding_laps(own, spent),
        playing(own, num_envs) as step,
    ):
        whole, parts, _ = measure(step, seconds, device, spent)
    laps = sum(parts[name] for name in LAPS)
    named = {name: parts[name] * parts["calls"] / laps if laps else 0.0 for name in LAPS}
    named |= {name: parts[name] for name in ("embed", "film", "decode")}
    named["transformer, rest"] = parts["transformer"] - parts["film"] - parts["calls"]
    named["logits"] = parts["logits"] + parts["step"] - parts["embed"] - parts["transformer"]  # with folding out
    named["draws"] = parts["uniforms"] + parts["sample"] - parts["step"] - parts["logits"]
    named["environment"] = whole - parts["uniforms"] - parts["sample"] - parts["decode"]
    return {name: 1e3 * named[name] / num_envs for name in PLAYED_PARTS if named[name]}


def time_encoding(world: GenieWorldModel, rows: int, seconds: float) -> float:
    """Return the milliseconds of encoding one frame, where ``rows`` prompts of four frames are encoded together."""
    videos = torch.rand(rows, _PROMPT_FRAMES, 3, world.config.height, world.config.width, device=world.device)
    with torch.no_grad():
        timing = measure(lambda: world.tokenizer.encode(videos), seconds, world.device)
    return 1e3 * timing.seconds / (rows * _PROMPT_FRAMES)


def _find_methods(world: GenieWorldModel) -> dict[str, tuple[Any, str]]:
    """Return the methods whose time is a part, or is needed to compute one by subtraction."""
    dynamics = world.dynamics
    return {
        "uniforms": (world_model, "draw_uniforms"),
        "sample": (world_model, "sample"),
        "step": (dynamics, "step"),
        "embed": (dynamics, "embed"),
        "transformer": (dynamics.transformer, "step"),
        "film": (step_kernel.StepKernel, "_modulate_norms"),
        "logits": (dynamics, "logits"),
        "decode": (world.tokenizer, "decode_next"),
    }


@contextlib.contextmanager
def _profiling(world: GenieWorldModel) -> Iterator[GenieWorldModel]:
    """Yield a copy of a world whose transformer, within the block, is stepped by a library that times its parts."""
    own = prepare(copy.deepcopy(world), str(world.dynamics.precision).removeprefix("torch."))
    with mock.patch.object(step_kernel, "transformer_library", lambda *sizes: transformer_library(*sizes, "PROFILE=1")):
        yield own


@contextlib.contextmanager
def _adding_laps(world: GenieWorldModel, spent: dict[str, float]) -> Iterator[None]:
    """Add the seconds of ``LAPS``, and of whole ``calls``, to ``spent`` after each step of the dynamics."""
    names, step = (*LAPS, "calls"), step_kernel.StepKernel.step
    spent.update(dict.fromkeys(names, 0.0))
    nanoseconds = (c_int64 * len(names))()

    def timed(kernel: step_kernel.StepKernel, *args: Any) -> Any:
        result = step(kernel, *args)
        kernel.library.genie_take_laps(nanoseconds)
        if kernel is getattr(world.dynamics.transformer, "step_kernel", None):  # a decoder may have a kernel of its own
            for name, value in zip(names, nanoseconds, strict=True):
                spent[name] += 1e-9 * value
        return result

    with mock.patch.object(step_kernel.StepKernel, "step", timed):
        yield
