"""Rows of play as tensors by name, which can be kept and put back into any row of the same world."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genie_gym.models.base import require_ids
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.models.world_state import WorldState, put_rows, require_latest, take_row


def pack_row(state: WorldState, row: int) -> dict[str, Tensor]:
    """Copy one row as tensors by name, from which ``unpack_row`` makes a state that goes on as the row would."""
    require_latest(state)
    return {name: tensor.clone() for name, tensor in _list_tensors(take_row(state, row)).items()}


def unpack_row(
    world: GenieWorldModel,
    tensors: Mapping[str, Tensor],
    maskgit_steps: int | None = None,
    temperature: float | None = None,
) -> WorldState:
    """Return a state of one row, in new memory, of the tensors of ``pack_row``; they may lie on another device.

    Raises:
        ValueError: If they are not those of a row of this world in its present precision; the message says why.
    """
    blank = _blank_row(world, maskgit_steps, temperature)
    places = _list_tensors(blank)
    for name in sorted({*places, *tensors}):
        wanted, given = _describe(places.get(name)), _describe(tensors.get(name))
        if given != wanted:
            raise ValueError(f"tensor {name!r} of a state must be {wanted}, got {given}")
    require_ids("tokens of a state", tensors["tokens"], world.config.tokenizer.quantizer.codes)
    require_ids("previous_actions of a state", tensors["previous_actions"], world.dynamics.no_action + 1)
    require_ids("numbers of a state", tensors["numbers"], 2**62)
    for name, place in places.items():
        place.copy_(tensors[name])
    seed, age, blank.dynamics.settled[0], blank.decoder.settled[0] = tensors["numbers"].tolist()
    return blank._replace(seeds=(seed,), ages=(age,))


def place_rows(state: WorldState, rows: Sequence[int], others: Sequence[WorldState]) -> WorldState:
    """Overwrite some rows by states of one row each, in the memory of ``state``, and leave the others as they are.

    The rows are sampled as those of ``state``.
    """
    require_latest(state)
    index = torch.as_tensor(rows, dtype=torch.int64, device=state.tokens.device)
    for row, other in zip(rows, others, strict=True):
        state.dynamics.put(row, other.dynamics)
        state.decoder.put(row, other.decoder)
    frames = [other.frames for other in others if other.frames is not None]
    return state._replace(
        frames=None if state.frames is None else state.frames.index_copy(0, index, torch.cat(frames)),
        tokens=state.tokens.index_copy(0, index, torch.cat([other.tokens for other in others])),
        previous_actions=state.previous_actions.index_copy(
            0, index, torch.cat([other.previous_actions for other in others])
        ),
        seeds=put_rows(state.seeds, rows, [other.seeds[0] for other in others]),
        ages=put_rows(state.ages, rows, [other.ages[0] for other in others]),
        version=state.dynamics.version,
    )


def _blank_row(world: GenieWorldModel, maskgit_steps: int | None, temperature: float | None) -> WorldState:
    """Return a state of one row whose tensors have the shapes and types of the world's, in memory of its own."""
    dynamics, decoder = world.dynamics.empty_cache(1), world.tokenizer.empty_cache(1)
    size, device = (1, 3, world.config.height, world.config.width), world.device
    tokens = torch.zeros(1, 1, world.config.tokens_per_frame, dtype=torch.int64, device=device)
    actions = torch.zeros(1, 1, dtype=torch.int64, device=device)
    frames = None if world.tokenizer.decodes_alone else torch.zeros(size, device=device)
    sampling = world.sampling(maskgit_steps, temperature)
    return WorldState(dynamics, decoder, frames, tokens, actions, (0,), (0,), sampling, dynamics.version)


def _list_tensors(state: WorldState) -> dict[str, Tensor]:
    """Return the tensors of a state of one row by name, not copied; ``numbers`` are its seed, age and cache places."""
    numbers = [state.seeds[0], state.ages[0], int(state.dynamics.settled[0]), int(state.decoder.settled[0])]
    tensors = {"tokens": state.tokens, "previous_actions": state.previous_actions, "numbers": torch.tensor(numbers)}
    if state.frames is not None:
        tensors["frames"] = state.frames
    for name, cache in (("dynamics", state.dynamics), ("decoder", state.decoder)):
        for number, block in enumerate(cache.blocks):
            if block is not None:
                tensors |= {f"{name}.{number}.keys": block.keys, f"{name}.{number}.values": block.values}
    return tensors


def _describe(tensor: Tensor | None) -> str:
    return "left out" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
