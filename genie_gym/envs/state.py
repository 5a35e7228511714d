"""The state of a row of play, which planners clone and restore, and which bytes keep without pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from genie_gym.checks import is_integer, require
from genie_gym.envs.worlds import WorldHandle
from genie_gym.nn.tensor_files import unpack_tensors
from genie_gym.serving import find_source

_FORMAT = "genie-gym state 1"


class _Origin(NamedTuple):
    """What identifies a state's world in another process."""

    checkpoint: str
    """name of its folder, which tells a person where to look"""
    digest: str
    """digest of its config and weights"""
    precision: str
    """precision that it plays in"""


@dataclass(frozen=True, eq=False)
class EnvState:
    """The state of one row of play: from it, any row of an environment of the same world goes on alike.

    ``clone_state`` of an environment makes it. It is a copy, never changes, and can be restored any number of times.
    """

    tensors: Mapping[str, Tensor]
    """the state of the world by name (``models.packed_rows``); not to be written to"""
    prompt_index: int
    """index of the start clip of the episode, -1 for a prompt given by the caller"""
    world_seed: int
    """seed of the world's sampling"""
    steps: int
    """number of steps since the episode began"""
    is_over: bool
    """whether the episode has ended"""
    origin: WorldHandle | _Origin
    """world that the state is of"""

    @property
    def info(self) -> dict[str, Any]:
        """The entries that the environments put into infos."""
        return {"prompt_index": self.prompt_index, "world_seed": self.world_seed}

    def require_world(self, handle: WorldHandle) -> None:
        """Check that the state is of this world in the same precision.

        Raises:
            ValueError: If it is not; the message names both worlds.
        """
        if isinstance(self.origin, WorldHandle) and self.origin.world is handle.world:
            return
        mine = _find_origin(self.origin) if isinstance(self.origin, WorldHandle) else self.origin
        theirs = _find_origin(handle)
        if mine is None or theirs is None or mine[1:] != theirs[1:]:
            raise ValueError(f"state must be of the world that is played, {_name(theirs)}, got one of {_name(mine)}")

    def to_bytes(self) -> bytes:
        """Return the state as bytes, in the format of safetensors, which ``from_bytes`` reads.

        Raises:
            ValueError: If the world was never saved, so that no other process could know it, or its checkpoint is gone.
        """
        origin = _find_origin(self.origin) if isinstance(self.origin, WorldHandle) else self.origin
        if origin is None:
            raise ValueError(
                f"state must be of a saved world to be kept as bytes, got one of {self.origin!r}: save the world with "
                "genie_gym.models.loading.save_world and play its folder"
            )
        row = {"prompt_index": self.prompt_index, "world_seed": self.world_seed, "steps": self.steps}
        about = {**origin._asdict(), **row, "is_over": self.is_over}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.tensors.items()}
        return safetensors.torch.save(tensors, {"format": _FORMAT, "state": json.dumps(about)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "EnvState":
        """Read a state that ``to_bytes`` wrote; no code in it is run.

        Raises:
            ValueError: If the bytes are no state, or are damaged.
        """
        require(isinstance(data, bytes | bytearray | memoryview), "state", data, "bytes")
        data = bytes(data)
        try:
            tensors = unpack_tensors(data, "tensors of a state")
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
            about = json.loads(metadata.get("state", "null"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"state must be bytes of EnvState.to_bytes, got {len(data)} others: {error}") from error
        fits = metadata.get("format") == _FORMAT and isinstance(about, dict)
        require(fits, "state", metadata, f"bytes of EnvState.to_bytes, of the format {_FORMAT!r}")
        names = [*_Origin._fields, "is_over", "prompt_index", "steps", "world_seed"]
        require(sorted(about) == sorted(names), "fields of state", sorted(about), str(sorted(names)))
        for name in _Origin._fields:
            require(isinstance(about[name], str), f"{name} of state", about[name], "a text")
        for name, least in (("prompt_index", -1), ("world_seed", 0), ("steps", 0)):
            require(is_integer(about[name], least, 2**62), f"{name} of state", about[name], f"an integer of {least} on")
        require(isinstance(about["is_over"], bool), "is_over of state", about["is_over"], "true or false")
        origin = _Origin(*(about.pop(name) for name in _Origin._fields))
        return cls(tensors=tensors, origin=origin, **about)


def require_state(state: Any, handle: WorldHandle, field: str = "state") -> EnvState:
    """Return ``state`` after checking that it is an ``EnvState`` of this world; ``field`` names it in errors."""
    require(isinstance(state, EnvState), field, type(state).__name__, "an EnvState, as clone_state() returns it")
    state.require_world(handle)
    return state


def _find_origin(handle: WorldHandle) -> _Origin | None:
    """Return what identifies a world in another process; None for a world that was never saved."""
    source = find_source(handle.world)
    return None if source is None else _Origin(Path(source.checkpoint).name, source.digest, source.precision)


def _name(origin: _Origin | None) -> str:
    if origin is None:
        return "a world in memory"
    return f"{origin.checkpoint!r} of digest {origin.digest} in {origin.precision}"
