"""The world that an environment plays: a checkpoint by name or path, or a world in memory."""

import os
from typing import Any

from genie_gym.checks import require
from genie_gym.models.loading import require_precision
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world


class WorldHandle:
    """A world in memory as an argument: ``gym.make("Genie-v0", checkpoint=WorldHandle(world))``.

    ``env.spec`` copies its arguments; a copy of a handle is the handle itself, so no weights are copied.

    Args:
        world: World in eval mode.
    """

    def __init__(self, world: GenieWorldModel) -> None:
        fits = all(hasattr(world, name) for name in ("config", "reset", "replace"))
        require(fits, "world", world, "a GenieWorldModel")
        self.world = world

    def __deepcopy__(self, memo: dict[int, Any]) -> "WorldHandle":
        return self

    def __repr__(self) -> str:
        config = self.world.config
        return f"WorldHandle({config.height}x{config.width}, {config.num_latent_actions} latent actions)"


Checkpoint = str | os.PathLike[str] | WorldHandle


def open_world(checkpoint: Checkpoint, device: str = "cpu", precision: str | None = None) -> GenieWorldModel:
    """Return a handle's world unchanged, or load a checkpoint through the process-wide cache."""
    require_precision(precision)
    if isinstance(checkpoint, WorldHandle):
        return checkpoint.world
    if not isinstance(checkpoint, str | os.PathLike):
        wanted = "a name, a path, or WorldHandle(world) for a world in memory"
        raise ValueError(f"checkpoint must be {wanted}, got {type(checkpoint).__name__}")
    return load_world(checkpoint, device, precision)
