"""Preparing a world for inference: precision, frozen weights, and packed modules on a CPU."""

from genie_gym.models import maskgit
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import kernels
from genie_gym.serving.packing import pack, unpack
from genie_gym.serving.precision import native_precision
from genie_gym.system import keep_freed_memory


def prepare(world: GenieWorldModel, precision: str | None = None, use_kernels: bool = True) -> GenieWorldModel:
    """Make a world ready for fast inference, in place.

    The world is frozen, its transformers are stored in the precision that they compute in, and on a CPU modules are
    swapped for twins that run C++ kernels. Frames are those of PyTorch up to rounding. Preparing a world again changes
    its precision; weights that were rounded stay rounded.

    Args:
        world: World to prepare; put it on its device first.
        precision: ``float32``, ``bfloat16`` or ``auto`` (see ``native_precision``); ``None`` for the config's.
        use_kernels: Whether to use the kernels where they are available; False leaves everything to PyTorch.

    Returns:
        The world.
    """
    wanted = world.config.precision if precision is None else precision
    world.set_precision(native_precision(world.device) if wanted == "auto" else wanted)
    dynamics, tokenizer = world.dynamics, world.tokenizer
    for part in (
        dynamics.token_embedding,
        dynamics.fold_in,
        dynamics.transformer,
        dynamics.fold_out,
        dynamics.head,
        tokenizer.encoder,
        tokenizer.decoder,
    ):
        part.to(dynamics.precision)
    world.freeze()
    unpack(world)
    world.draw_tokens = maskgit.draw
    if world.device.type == "cpu":
        keep_freed_memory()
        if use_kernels and kernels.can_multiply(dynamics.precision):
            pack(world)
            world.draw_tokens = kernels.draw_tokens
    return world
