"""The world that an environment plays: a checkpoint by name or path, or a world in memory."""

import os
from multiprocessing.context import get_spawning_popen
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from genie_gym.checks import require
from genie_gym.models.loading import require_precision
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import WorldSource, find_source, load_world

_keys: WeakKeyDictionary[GenieWorldModel, str] = WeakKeyDictionary()
"""World whose handle has been pickled -> a random key."""
_worlds: WeakValueDictionary[str, GenieWorldModel] = WeakValueDictionary()
"""Key -> its world, as long as this process has it."""
_IN_MEMORY = (
    "checkpoint must be a name or a folder in another process, got a WorldHandle of a world in memory, which does not "
    "travel between processes: save it with genie_gym.models.loading.save_world and pass the folder"
)


class WorldHandle:
    """A world in memory as an argument: ``gym.make("genie_gym:Genie-v0", checkpoint=WorldHandle(world))``.

    Every environment holds its world by a handle, so that its copies and pickles hold no weights. A copy of a handle is
    the handle itself. A pickle names the world. In this process and in those forked from it, it is read as the same
    world, as long as that is in memory. Elsewhere the world is loaded again, if ``genie_gym.load`` loaded it: a
    ValueError says so if its checkpoint is gone or has another digest, or if the world never had one.

    Args:
        world: World in eval mode.
    """

    def __init__(self, world: GenieWorldModel) -> None:
        fits = all(hasattr(world, name) for name in ("config", "begin", "advance"))
        require(fits, "world", world, "a GenieWorldModel")
        self.world = world

    def __copy__(self) -> "WorldHandle":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "WorldHandle":
        return self

    def __reduce__(self) -> tuple[Any, tuple[str, WorldSource | None]]:
        """Name the world; its digest is computed once per world.

        Raises:
            ValueError: If its checkpoint is gone or has been rewritten since it was loaded, or if a process is being
                started that could not find it.
        """
        source = find_source(self.world)
        if source is None and get_spawning_popen() is not None:
            raise ValueError(_IN_MEMORY)  # here, since a child that fails to start only breaks the connection to it
        key = _keys.setdefault(self.world, uuid4().hex)
        _worlds[key] = self.world
        return _reopen, (key, source)

    def __repr__(self) -> str:
        config = self.world.config
        return f"WorldHandle({config.height}x{config.width}, {config.num_latent_actions} latent actions)"


def _reopen(key: str, source: WorldSource | None) -> WorldHandle:
    """Return a handle of the world that a pickle names: the one of this key in this process, or else its source's."""
    if (world := _worlds.get(key)) is not None:
        return WorldHandle(world)
    if source is None:
        raise ValueError(_IN_MEMORY)
    return WorldHandle(source.load())


Checkpoint = str | os.PathLike[str] | WorldHandle


def open_world(checkpoint: Checkpoint, device: str = "cpu", precision: str | None = None) -> WorldHandle:
    """Return a handle unchanged, or load a checkpoint through the process-wide cache."""
    require_precision(precision)
    if isinstance(checkpoint, WorldHandle):
        return checkpoint
    if not isinstance(checkpoint, str | os.PathLike):
        wanted = "a name, a path, or WorldHandle(world) for a world in memory"
        raise ValueError(f"checkpoint must be {wanted}, got {type(checkpoint).__name__}")
    return WorldHandle(load_world(checkpoint, device, precision))
