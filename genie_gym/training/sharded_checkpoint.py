"""Checkpoints that many ranks write together while they train on, and that any number of ranks can read.

``torch.distributed.checkpoint`` writes them as safetensors, each rank its own part, so that nothing is pickled. Each is
a folder ``steps/STEP``; its ``about.json`` lists the files, is written last and marks it whole. Until then the one
before it stays.
"""

import json
import os
import shutil
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from genie_gym.training.distributed import Ranks

_FOLDER, _ABOUT = "steps", "about.json"


class ShardedSaver:
    """Writes the checkpoints of one run in the background, one at a time; every rank has to call each method.

    Args:
        folder: Folder of the run.
        ranks: This rank and the number of them.
        outdated: File that the first checkpoint replaces.
    """

    def __init__(self, folder: Path, ranks: Ranks, outdated: Path) -> None:
        self._folder, self._ranks, self._outdated = folder / _FOLDER, ranks, outdated
        self._group = dist.new_group(backend="gloo")  # the background thread must not mix its messages with training's
        self._future: Future[Any] | None = None
        self._is_awaited = False  # whether ranks have yet to meet after the last save, whoever of them has polled it
        self._about: dict[str, Any] = {}

    def save(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Copy the tensors, and write them in the background; ``about`` names the step."""
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import async_save

        self.wait()
        path = self._path(about)
        if self._ranks.is_first:
            shutil.rmtree(path, ignore_errors=True)  # left by a process that was killed while it wrote
            path.mkdir(parents=True)
        self._ranks.barrier()
        writer = HuggingFaceStorageWriter(str(path), save_distributed=True)
        saved = {name: tensor.reshape(1) if tensor.ndim == 0 else tensor for name, tensor in tensors.items()}
        self._future = cast("Future[Any]", async_save(saved, storage_writer=writer, process_group=self._group))
        self._about, self._is_awaited = about, True

    def poll(self) -> None:
        """Mark the checkpoint being written as whole if all ranks have written it, and delete the one before it.

        If it cannot be written, ``wait`` raises the error, on all ranks at the same step.
        """
        if self._future is not None and self._future.done() and self._future.exception() is None:
            self._future = None
            if self._ranks.is_first:  # its future is done when all ranks have reported to it
                self._mark(self._path(self._about))

    def wait(self) -> None:
        """Wait until the checkpoint being written is whole.

        Raises:
            SharedOSError: On every rank, if it cannot be written; what is written of it is deleted.
        """
        if not self._is_awaited:
            return
        self._is_awaited = False
        self._ranks.agree(self._end_save)

    def _end_save(self) -> None:
        """Wait until this rank has done its part of a save; ``OSError`` if the checkpoint cannot be written."""
        from torch.distributed.checkpoint.api import CheckpointException

        failure = None if self._future is None else self._future.exception()
        if failure is None:
            self.poll()
            return
        self._future, path = None, self._path(self._about)
        if not isinstance(failure, CheckpointException):
            raise failure
        if self._ranks.is_first:
            shutil.rmtree(path, ignore_errors=True)
        # It holds the failures of all ranks, with their tracebacks.
        causes = dict.fromkeys(str(error) for error, _ in failure.failures.values())
        raise OSError(f"{path}: cannot be written ({'; '.join(causes)})") from failure

    def _path(self, about: dict[str, Any]) -> Path:
        return self._folder / f"{about['step']:09d}"

    def _mark(self, path: Path) -> None:
        temporary = path / f"{_ABOUT}.tmp"
        files = {file.name: file.stat().st_size for file in path.glob("*.safetensors")}
        temporary.write_text(json.dumps({**self._about, "files": files}))
        os.replace(temporary, path / _ABOUT)
        for other in self._folder.iterdir():
            if other != path:
                shutil.rmtree(other, ignore_errors=True)
        self._outdated.unlink(missing_ok=True)


def find_sharded(folder: Path) -> Path | None:
    """Return the folder of a run's last whole checkpoint by several ranks, ``None`` if there is none."""
    return max((path.parent for path in (folder / _FOLDER).glob(f"*/{_ABOUT}")), default=None)


def remove_sharded(folder: Path) -> None:
    """Delete a run's checkpoints by several ranks, when one process has saved a later one."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


def read_sharded_about(path: Path) -> dict[str, Any]:
    """Return what ``ShardedSaver.save`` was told about a checkpoint; ``ValueError`` if a file is missing or damaged."""
    try:
        about = json.loads((path / _ABOUT).read_text())
        for name, size in about["files"].items():
            if (path / name).stat().st_size != size:
                raise ValueError(f"{name} must have {size} bytes, got {(path / name).stat().st_size}")
        return {"step": int(about["step"]), "config": dict(about["config"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"run {str(path)!r} is damaged: {error}") from error


def list_sharded(path: Path) -> dict[str, torch.Size]:
    """Return the name and shape of every tensor of a checkpoint; ``ValueError`` if it is damaged."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    try:
        found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"run {str(path)!r} is damaged: {error}") from error
    return {name: each.size for name, each in cast(dict[str, Any], found).items()}


def load_sharded(path: Path, tensors: dict[str, Tensor]) -> None:
    """Fill tensors, which may be whole or a rank's parts, from a checkpoint by any number of ranks."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    filled = {name: tensor.reshape(1) if tensor.ndim == 0 else tensor for name, tensor in tensors.items()}
    has_ranks = dist.is_available() and dist.is_initialized()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it is: one process reads
        load(filled, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=not has_ranks)
