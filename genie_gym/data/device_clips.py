"""Clips drawn from frames in a GPU's memory (12 kB per frame of 64 x 64), if they fit: no batch waits for a disk."""

from collections.abc import Iterator

import numpy as np
import torch

from genie_gym.data.clips import Batch, ClipDataset, draw_numbers

_HELD_SHARE = 0.25
"""Share of a GPU's free memory that frames may take."""


def hold_on_device(dataset: ClipDataset, device: str | torch.device) -> "DeviceClips | None":
    """Copy all frames to a GPU, or return None if they take more than a quarter of its free memory, or it is a CPU."""
    if torch.device(device).type != "cuda" or dataset.num_bytes > _HELD_SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    return DeviceClips(dataset, device)


class DeviceClips:
    """All frames of a dataset in the memory of a device, with batches of its clips."""

    def __init__(self, dataset: ClipDataset, device: str | torch.device) -> None:
        size = (dataset.num_frames, dataset.height, dataset.width, 3)
        self._frames = torch.empty(size, dtype=torch.uint8, device=device)
        done = 0
        for frames in dataset.read_all():
            self._frames[done : done + len(frames)] = torch.from_numpy(frames)
            done += len(frames)
        self._dataset = dataset
        self._offsets = dataset.frame_step * torch.arange(dataset.clip_length)

    def batches(
        self, batch_size: int, seed: int, first_batch: int, num_batches: int, rows: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Yield the batches of ``data.clips.batches``, with videos (B, T, H, W, 3) uint8 on the device."""
        for number in range(first_batch, first_batch + num_batches):
            numbers = draw_numbers(len(self._dataset), batch_size, seed, number)
            numbers = numbers if rows is None else numbers[rows]
            indices = torch.from_numpy(self._dataset.find_frames(numbers))[:, None] + self._offsets  # (B, T)
            yield Batch(self._frames[indices.to(self._frames.device)], torch.from_numpy(numbers))
