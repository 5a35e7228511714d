"""What a transformer remembers of past frames while a world is played: fixed memory, used round and round."""

import copy
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genie_gym.nn.attention import KeyValues, KVCache, Window
from genie_gym.nn.st_transformer import SpatioTemporalTransformer


class FrameCache:
    """Keys and values of the latest frames of B rows in a ring of slots, one ring a block.

    A new frame takes the slot after the last one's, which by then holds a frame out of context. Its keys and
    values may be written several times (drafts); ``advance`` says that it is settled. Each row goes round from
    slot 0, so that even its rounding errors don't hang on when the other rows began.

    Args:
        transformer: Whose frames.
        batch: Rows.
        places: Tokens a frame.
        drafts: Frames that may be written ahead of the settled ones.
        dtype: Of the features.
    """

    def __init__(
        self, transformer: SpatioTemporalTransformer, batch: int, places: int, drafts: int, dtype: torch.dtype
    ) -> None:
        self.context_length = transformer.context_length
        self.size = self.context_length - 1 + drafts
        self.slots: list[KVCache | None] = transformer.empty_cache(batch, places, self.size, dtype)
        self.turns = np.zeros(batch, dtype=np.int64)
        """(B,) frames settled so far; the next one's slot is this modulo ``size``."""
        self.version = 0
        """Changes of what is settled."""

    def window(self, first: int, frames: int, device: torch.device) -> Window:
        """Where ``frames`` frames go of which the first is number ``first`` after the settled ones."""
        if not (self.turns == self.turns[0]).all():
            return _place(self.turns, first, frames, self.size, self.context_length, device)
        turn, filled = int(self.turns[0]), self.context_length
        if turn > filled:
            turn = filled + (turn - filled) % self.size  # all slots are full, and these are the same
        return _place_together(turn, first, frames, self.size, self.context_length, device)

    def advance(self) -> None:
        """The next frame is settled."""
        self.version += 1
        self.turns += 1

    def read_oldest(self) -> list[KVCache | None]:
        """What the next step overwrites and an earlier state would see: of each block one frame (B, N, heads, ...)."""
        return [None if part is None else KVCache(*(each[self._oldest()] for each in part)) for part in self.slots]

    def withdraw(self, oldest: Sequence[KVCache | None]) -> None:
        """The last settled frame is taken back; ``oldest`` is from before the step that drew the one after it."""
        self.version += 1
        self.turns -= 1
        for part, own in zip(self.slots, oldest, strict=True):
            if part is not None and own is not None:
                part.keys[self._oldest()], part.values[self._oldest()] = own

    def _oldest(self) -> tuple[Tensor | slice, ...]:
        """The slots that the last of the next step's drafts takes."""
        slots = (self.turns + self.size - self.context_length) % self.size
        return torch.arange(len(slots)), slice(None), slice(None), torch.from_numpy(slots)

    def begin(self, rows: Sequence[int], frames: int, remembered: Sequence[KeyValues | None]) -> None:
        """Forget the rows' frames and settle others.

        Args:
            rows: R row numbers.
            frames: How many; those beyond the context are dropped, oldest first.
            remembered: Their keys and values, (frames, R, N, heads, features), one a block.
        """
        self.version += 1
        kept = min(frames, self.context_length - 1)
        self.turns[rows] = kept
        for slots, block in zip(self.slots, remembered, strict=kept > 0):
            if slots is None or block is None:
                continue
            for slot in range(kept):
                slots.write(rows, slot, block.keys[slot - kept], block.values[slot - kept])

    def clone(self) -> "FrameCache":
        """Another with the same content."""
        other = copy.copy(self)
        other.slots = [None if part is None else KVCache(*(each.clone() for each in part)) for part in self.slots]
        other.turns = self.turns.copy()
        return other

    @classmethod
    def join(cls, caches: "Sequence[FrameCache]") -> "FrameCache":
        """The rows of several, one after the other, in memory of their own."""
        first = caches[0]
        other = copy.copy(first)
        other.slots = [
            None if parts[0] is None else KVCache(*(torch.cat(each) for each in zip(*parts, strict=True)))
            for parts in zip(*(cache.slots for cache in caches), strict=True)
        ]
        other.turns = np.concatenate([cache.turns for cache in caches])
        return other

    def take(self, row: int) -> "FrameCache":
        """One row, in memory of its own."""
        other = copy.copy(self)
        other.slots = [
            None if part is None else KVCache(*(each[row : row + 1].clone() for each in part)) for part in self.slots
        ]
        other.turns = self.turns[row : row + 1].copy()
        return other


@functools.lru_cache(maxsize=256)
def _place_together(turn: int, first: int, frames: int, size: int, context_length: int, device: torch.device) -> Window:
    """The window of rows that have all settled as many frames; they come round, and are the same object then."""
    return _place(np.array([turn]), first, frames, size, context_length, device)


def _place(turns: np.ndarray, first: int, frames: int, size: int, context_length: int, device: torch.device) -> Window:
    times = turns[:, None] + np.arange(first, first + frames)
    distance = (times[..., None] - np.arange(size)) % size
    is_seen = distance <= np.minimum(times, context_length - 1)[..., None]
    slots = times % size
    return Window(
        slots[0].tolist() if len(turns) == 1 else list(torch.from_numpy(slots.T).to(device).unbind()),
        torch.from_numpy(distance).to(device),
        torch.from_numpy(is_seen).to(device),
    )
