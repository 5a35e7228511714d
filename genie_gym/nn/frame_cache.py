"""The KV cache of a whole transformer: a ring of frames of fixed size, one per block."""

import copy
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genie_gym.nn.attention import CacheWindow, KeyValues, KVCache
from genie_gym.nn.st_transformer import SpatioTemporalTransformer


class FrameCache:
    """Keys and values of the latest frames of B rows, as a ring of ``size`` frames per block.

    A new frame overwrites the oldest one, which is out of context by then. A frame may be written several times as a
    draft; ``advance`` settles it. Each row counts its frames from index 0, so that its rounding errors do not depend on
    when other rows began.

    Args:
        transformer: Transformer whose frames are cached.
        batch: Number of rows.
        positions: Number of token positions per frame.
        drafts: Number of frames that may be written ahead of the settled ones.
        dtype: Type of the features.
    """

    def __init__(
        self, transformer: SpatioTemporalTransformer, batch: int, positions: int, drafts: int, dtype: torch.dtype
    ) -> None:
        self.context_length = transformer.context_length
        self.size = self.context_length - 1 + drafts
        self.blocks: list[KVCache | None] = transformer.empty_caches(batch, positions, self.size, dtype)
        self.settled = torch.zeros(batch, dtype=torch.int64)
        """(B,) number of frames settled so far, on the CPU; modulo ``size`` it is the index of the next one."""
        self.is_static = False
        self.version = 0
        """Counter of the changes to what is settled."""

    def window(self, first: int, frames: int, device: torch.device) -> CacheWindow:
        """Return where ``frames`` new frames go, the first of them ``first`` frames after the settled ones."""
        if self.is_static or not (self.settled == self.settled[0]).all():
            return _place(self.settled, first, frames, self.size, self.context_length, device)
        settled, full = int(self.settled[0]), self.context_length
        if settled > full:
            settled = full + (settled - full) % self.size  # in a full ring, windows repeat every ``size`` frames
        return _place_together(settled, first, frames, self.size, self.context_length, device)

    def make_static(self, device: torch.device) -> "FrameCache":
        """Count settled frames on ``device`` from now on, and return the cache itself.

        Windows are then the same operations on tensors at every step and with any number of rows, so that a CUDA graph
        can repeat them. Such a cache is for steps in place: it cannot be forked, joined or undone.
        """
        self.is_static, self.settled = True, self.settled.to(device)
        return self

    def advance(self) -> None:
        """Settle the next frame, which has been written as a draft."""
        self.version += 1
        self.settled += 1

    def read_oldest(self) -> list[KVCache | None]:
        """Copy the frame of each block, (B, N, heads, ...), that the next step overwrites and ``withdraw`` needs."""
        return self._map(lambda part: part[self._oldest()])

    def withdraw(self, oldest: Sequence[KVCache | None]) -> None:
        """Take back the last settled frame.

        Args:
            oldest: Result of ``read_oldest`` from before the step that settled it.
        """
        self.version += 1
        self.settled -= 1
        for cache, overwritten in zip(self.blocks, oldest, strict=True):
            if cache is not None and overwritten is not None:
                cache.keys[self._oldest()], cache.values[self._oldest()] = overwritten

    def _oldest(self) -> tuple[Tensor | slice, ...]:
        """Return the index of the frame that the last draft of the next step overwrites, for each row."""
        indices = (self.settled + self.size - self.context_length) % self.size
        return torch.arange(len(indices)), slice(None), slice(None), indices

    def begin(self, rows: Sequence[int], frames: int, keys_values: Sequence[KeyValues | None]) -> None:
        """Replace all frames of some rows by other settled ones.

        Args:
            rows: R row numbers.
            frames: Number of new frames; those beyond the context are dropped, oldest first.
            keys_values: Their keys and values, (frames, R, N, heads, features), one per block.
        """
        self.version += 1
        kept = min(frames, self.context_length - 1)
        self.settled[rows] = kept
        for cache, block in zip(self.blocks, keys_values, strict=kept > 0):
            if cache is None or block is None:
                continue
            for index in range(kept):
                cache.write(rows, index, block.keys[index - kept], block.values[index - kept])

    def clone(self) -> "FrameCache":
        """Copy all rows into new memory."""
        return self._copy(self._map(Tensor.clone), self.settled.clone())

    def take(self, row: int) -> "FrameCache":
        """Copy one row into new memory."""
        return self._copy(self._map(lambda part: part[row : row + 1].clone()), self.settled[row : row + 1].clone())

    def put(self, row: int, other: "FrameCache") -> None:
        """Overwrite one row by the only row of another cache of the same transformer."""
        self.version += 1
        self.settled[row] = other.settled[0]
        for cache, block in zip(self.blocks, other.blocks, strict=True):
            if cache is not None and block is not None:
                cache.keys[row], cache.values[row] = block.keys[0], block.values[0]

    @classmethod
    def join(cls, caches: "Sequence[FrameCache]") -> "FrameCache":
        """Copy the rows of several caches, in order, into one new memory."""
        blocks = [
            None if parts[0] is None else KVCache(*(torch.cat(each) for each in zip(*parts, strict=True)))
            for parts in zip(*(cache.blocks for cache in caches), strict=True)
        ]
        return caches[0]._copy(blocks, torch.cat([cache.settled for cache in caches]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> list[KVCache | None]:
        return [None if cache is None else KVCache(*map(change, cache)) for cache in self.blocks]

    def _copy(self, blocks: list[KVCache | None], settled: Tensor) -> "FrameCache":
        other = copy.copy(self)
        other.blocks, other.settled = blocks, settled
        return other


@functools.lru_cache(maxsize=256)
def _place_together(
    settled: int, first: int, frames: int, size: int, context_length: int, device: torch.device
) -> CacheWindow:
    """Return the window of rows that have settled equally many frames; equal arguments return the same object."""
    window = _place(torch.tensor([settled]), first, frames, size, context_length, device)
    return window._replace(indices=[int(index) for index in window.indices])


def _place(
    settled: Tensor, first: int, frames: int, size: int, context_length: int, device: torch.device
) -> CacheWindow:
    """Return the window of new frames of rows that have settled (B,) frames; see ``FrameCache.window``."""
    times = settled[:, None] + torch.arange(first, first + frames, device=settled.device)  # (B, F)
    distance = (times[..., None] - torch.arange(size, device=settled.device)) % size  # (B, F, S)
    is_visible = distance <= times.clamp(max=context_length - 1)[..., None]
    indices = (times % size).to(device)
    return CacheWindow(indices.unbind(dim=1), distance.to(device), is_visible.to(device))
