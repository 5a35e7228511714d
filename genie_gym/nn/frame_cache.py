"""What a transformer remembers of past frames while a world is played: fixed memory, used round and round."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genie_gym.nn.attention import KeyValues, Slots, Window
from genie_gym.nn.st_transformer import SpatioTemporalTransformer


class FrameCache:
    """Keys and values of the latest frames of B rows in a ring of slots, one ring a block.

    A new frame takes the slot after the last one's, which by then holds a frame out of context. Its keys and
    values may be written several times (drafts); ``advance`` says that it is settled.

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
        self.slots: list[Slots | None] = transformer.empty_slots(batch, places, self.size, dtype)
        self.lengths = np.zeros(batch, dtype=np.int64)
        """(B,) settled frames of each row that are in context."""
        self.turn = 0
        """Frames settled since the cache is there."""
        self.version = 0
        """Changes so far."""

    def window(self, first: int, frames: int, device: torch.device) -> Window:
        """Where ``frames`` frames go of which the first is number ``first`` after the settled ones."""
        numbers = torch.arange(first, first + frames, device=device)
        distance = (self.turn + numbers[:, None] - torch.arange(self.size, device=device)) % self.size
        reach = (numbers + self._reach(device)).clamp(max=self.context_length - 1)
        slots = [(self.turn + number) % self.size for number in range(first, first + frames)]
        return Window(slots, distance, distance <= reach[..., None])

    def _reach(self, device: torch.device) -> Tensor:
        """(B or 1, 1): settled frames behind, once for all rows where they agree."""
        lengths = self.lengths[:1] if (self.lengths == self.lengths[0]).all() else self.lengths
        return torch.from_numpy(lengths.copy()).to(device)[:, None]

    def advance(self) -> None:
        """The next frame is settled."""
        self.turn += 1
        self.version += 1
        self.lengths = np.minimum(self.lengths + 1, self.context_length - 1)

    def begin(self, rows: Sequence[int], frames: int, remembered: Sequence[KeyValues | None]) -> None:
        """Forget the rows' frames and settle others.

        Args:
            rows: R row numbers.
            frames: How many; those beyond the context are dropped, oldest first.
            remembered: Their keys and values, (frames, R, N, heads, features), one a block.
        """
        self.version += 1
        kept = min(frames, self.context_length - 1)
        self.lengths[rows] = kept
        for slots, block in zip(self.slots, remembered, strict=kept > 0):
            if slots is None or block is None:
                continue
            for part, new in zip(slots, block, strict=True):
                for back in range(1, kept + 1):
                    part[rows, :, (self.turn - back) % self.size] = new[-back].flatten(-2)

    def clone(self) -> "FrameCache":
        """Another with the same content."""
        other = copy.copy(self)
        other.slots = [None if part is None else Slots(*(each.clone() for each in part)) for part in self.slots]
        other.lengths = self.lengths.copy()
        return other
