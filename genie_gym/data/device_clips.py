"""Clips cut on a GPU from frames that all lie in its memory, 12 kB each at 64 x 64: no batch waits for a disk."""

from collections.abc import Iterator

import numpy as np
import torch

from genie_gym.data.clips import Batch, ClipDataset, draw_numbers


class DeviceClips:
    """A dataset's frames on a device.

    Args:
        dataset: Read whole.
        device: Where to.
    """

    def __init__(self, dataset: ClipDataset, device: str | torch.device) -> None:
        size = (dataset.num_frames, dataset.height, dataset.width, 3)
        self._frames = torch.empty(size, dtype=torch.uint8, device=device)
        done = 0
        for frames in dataset.read_all():
            self._frames[done : done + len(frames)] = torch.from_numpy(frames)
            done += len(frames)
        self._firsts = torch.from_numpy(dataset.first_frames)
        self._offsets = dataset.frame_step * torch.arange(dataset.clip_length)

    def batches(self, batch_size: int, seed: int, first_batch: int, num_batches: int) -> Iterator[Batch]:
        """What ``data.clips.batches`` draws, with videos (B, T, H, W, 3) uint8 on the device."""
        among = np.arange(len(self._firsts))
        for number in range(first_batch, first_batch + num_batches):
            numbers = torch.from_numpy(draw_numbers(among, batch_size, seed, number))
            places = self._firsts[numbers][:, None] + self._offsets
            yield Batch(self._frames[places.to(self._frames.device)], numbers)
