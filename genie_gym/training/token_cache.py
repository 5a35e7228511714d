"""A cache of clips' tokens on disk, so that the frozen tokenizer encodes each clip only once."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.config_io import to_dict
from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.nn.weights import digest_weights


class TokenCache:
    """The tokens of a dataset's clips under one frozen tokenizer, in one sparse file.

    An entry holds each token plus one, so that 0 means missing: an entry that a killed process wrote only in part has
    zeros and is encoded again. The file's name is a digest of everything that decides the tokens; files of another
    tokenizer or dataset are deleted.

    Args:
        folder: Folder of the run.
        tokenizer: Frozen tokenizer.
        dataset: Dataset from which the batches are drawn.
        config: Config of the phase that reads the cache, with a precision in place of ``auto``.

    Raises:
        ValueError: If the precision is ``auto``.
    """

    def __init__(self, folder: Path, tokenizer: VideoTokenizer, dataset: ClipDataset, config: TrainConfig) -> None:
        require(config.precision != "auto", "config.precision", config.precision, "the precision of the tokens")
        self._tokenizer = tokenizer
        self._shape = (dataset.clip_length, tokenizer.config.tokens_per_frame)
        self._dtype = np.dtype(np.uint16 if tokenizer.config.tokenizer.quantizer.codes < 2**16 else np.uint32)
        self.path = folder / f"tokens-{_digest(tokenizer, dataset, config)}.bin"
        for outdated in set(folder.glob("tokens-*.bin")) - {self.path}:
            outdated.unlink(missing_ok=True)  # other ranks delete them too
        folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(len(dataset) * self._entry_bytes)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """Return the tokens (B, T, N) int64 of the batch's videos, encoding only clips without an entry.

        They are encoded in a batch of the same size, padded with the last of them: the choice of kernels, and with it
        the last bits of a result, may depend on a batch's shape.
        """
        numbers, entries = batch.numbers.tolist(), np.zeros((len(batch.numbers), *self._shape), self._dtype)
        with self.path.open("r+b", buffering=0) as file:
            for number, entry in zip(numbers, entries, strict=True):
                file.seek(number * self._entry_bytes)
                file.readinto(entry.data)
            missing = np.flatnonzero((entries == 0).any(axis=(1, 2)))
            if len(missing):
                rows = np.pad(missing, (0, len(numbers) - len(missing)), mode="edge")
                tokens = self._tokenizer.encode(batch.videos[rows])
                entries[missing] = tokens[: len(missing)].cpu().numpy() + 1
            for row in missing:
                file.seek(numbers[row] * self._entry_bytes)
                file.write(entries[row].data)
        return torch.from_numpy(entries.astype(np.int64) - 1).to(batch.videos.device)

    @property
    def _entry_bytes(self) -> int:
        return int(np.prod(self._shape)) * self._dtype.itemsize


def is_worthwhile(dataset: ClipDataset, config: TrainConfig) -> bool:
    """Return whether a phase draws at least as many clips as there are; with fewer draws hardly any clip repeats."""
    return config.train_steps * config.batch_size >= len(dataset)


def _digest(tokenizer: VideoTokenizer, dataset: ClipDataset, config: TrainConfig) -> str:
    """Return a digest of everything that decides a clip's tokens, except the machine."""
    inputs = [
        to_dict(tokenizer.config.tokenizer),
        dataset.fingerprint,
        config.precision,
        config.compile,
        next(tokenizer.parameters()).device.type,
        config.batch_size,
        digest_weights(tokenizer),
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
