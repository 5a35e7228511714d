"""Clips drawn from frames in a GPU's memory (12 kB per frame of 64 x 64), so that no batch waits for a disk."""

from collections.abc import Iterator

import numpy as np
import torch

from genie_gym.data.clips import Batch, ClipDataset, draw_numbers


class DeviceClips:
    """All frames of a dataset in the memory of a device, with batches of its clips."""

    def __init__(self, dataset: ClipDataset, device: str | torch.device) -> None:
        size = (dataset.num_frames, dataset.height, dataset.width, 3)
        self._frames = torch.empty(size, dtype=torch.uint8, device=device)
        done = 0
        for frames in dataset.read_all():
            self._frames[done : done + len(frames)] = torch.from_numpy(frames)
            done += len(frames)
        self._firsts = torch.from_numpy(dataset.first_frames)
        self._offsets = dataset.frame_step * torch.arange(dataset.clip_length)

    def batches(
        self, batch_size: int, seed: int, first_batch: int, num_batches: int, rows: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Yield the batches of ``data.clips.batches``, with videos (B, T, H, W, 3) uint8 on the device."""
        among = np.arange(len(self._firsts))
        for number in range(first_batch, first_batch + num_batches):
            drawn = draw_numbers(among, batch_size, seed, number)
            numbers = torch.from_numpy(drawn if rows is None else drawn[rows])
            indices = self._firsts[numbers][:, None] + self._offsets  # (B, T)
            yield Batch(self._frames[indices.to(self._frames.device)], numbers)
