"""Processes that train together, one per device, as torchrun starts them; a single process needs nothing of this."""

import contextlib
import enum
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from genie_gym.configs import Preset, TrainConfig
from genie_gym.models.loading import require_device
from genie_gym.nn.ranks import Share
from genie_gym.system import end_with_parent

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask a run to save and end: a scheduler's, and the keyboard's Ctrl-C."""
_PATIENCE = timedelta(days=2)
"""Time that a rank waits for another one, which may be converting many videos; torchrun ends all if one dies."""
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Variable by which a process knows that torchrun started it."""
_Result = TypeVar("_Result")


class SharedError(ValueError):
    """A ValueError that every rank raises alike, so that one of them can report it for all."""


class SharedOSError(OSError):
    """An OSError that every rank raises alike, such as of a full disk."""


@dataclass(frozen=True)
class Ranks:
    """This process's number among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes logs, bars and worlds for all."""
        return self.rank == 0

    def split(self, config: TrainConfig) -> list[Share]:
        """Return this rank's share of each part of a batch.

        Parts follow each other in the batch, and in a part the ranks: so a part is the same clips on any number of
        ranks, and so is a batch.

        Raises:
            ValueError: If ranks and parts do not divide the batch.
        """
        require_divisible(config, self.size)
        rows = config.batch_size // (self.size * config.accumulate)
        firsts = [(part * self.size + self.rank) * rows for part in range(config.accumulate)]
        return [Share(first, rows, config.batch_size, self.size, self.rank) for first in firsts]

    def barrier(self) -> None:
        """Wait for the other ranks."""
        if self.size > 1:
            dist.barrier()

    def agree(self, work: Callable[[], _Result]) -> _Result:
        """Return the result of ``work``; if it fails with a ValueError or OSError on any rank, fail on all.

        Raises:
            SharedError: The failure of the lowest rank that failed, on every rank.
            SharedOSError: The same, if it is an OSError.
        """
        if self.size == 1:
            return work()
        result, failure = None, None
        try:
            result = work()
        except (ValueError, OSError) as error:
            failure = (str(error), isinstance(error, OSError))
        failures = self.gather(failure)
        for rank, told in enumerate(failures):
            if told is not None:
                same = all(each == told for each in failures)
                text = told[0] if same else f"rank {rank} of {self.size}: {told[0]}"
                raise SharedOSError(text) if told[1] else SharedError(text)
        return result  # type: ignore[return-value]

    def read(self, items: Iterable[_Result]) -> Iterator[_Result]:
        """Yield this rank's items, as many on each rank; if one cannot be read on any rank, fail on all, before a step.

        Raises:
            SharedError: The failure of the lowest rank that failed, on every rank.
        """
        if self.size == 1:
            yield from items
            return
        iterator, failed = iter(items), torch.zeros((), dtype=torch.int64)
        while True:
            item, failure = None, None
            try:
                item = next(iterator, None)
            except (ValueError, OSError) as error:
                failure = error
            failed.fill_(failure is not None)
            dist.all_reduce(failed, dist.ReduceOp.MAX)  # of the failure's text would take ten times as long
            if failed:
                self.agree(functools.partial(_raise, failure))
            if item is None:
                return
            yield item

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's plain value, such as a text, by rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def require_same(self, values: dict[str, Any]) -> None:
        """Check that all ranks were given the same values, such as a config.

        Raises:
            SharedError: On every rank, naming the first rank that differs from rank 0, and the fields.
        """
        mine = json.loads(json.dumps(values, default=str))
        first, *others = self.gather(mine)
        for rank, other in enumerate(others, start=1):
            if other != first:
                raise SharedError(
                    f"all {self.size} ranks must have one config and the same data, but rank {rank} differs from rank "
                    f"0 in {'; '.join(list_differences(first, other))}"
                )


def _raise(failure: Exception | None) -> None:
    if failure is not None:
        raise failure


def current_ranks() -> Ranks:
    """Return the number of this process among its ranks; the only one of one without a process group."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@contextlib.contextmanager
def join_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the ranks that torchrun started, by gloo and on GPUs by NCCL, and yield them and this rank's device.

    Without torchrun, or with one process, there is nothing to join. On a machine with several GPUs, ``cuda`` means the
    one with the number of the process.
    """
    if not all(name in os.environ for name in _VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        yield Ranks(), device
        return
    is_gpu = device.partition(":")[0] == "cuda"
    if is_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    # Ranks that have no GPU join too, to tell the others.
    backends = "cpu:gloo,cuda:nccl" if is_gpu and torch.cuda.is_available() else "gloo"
    if _LAUNCHED in os.environ:
        end_with_parent()
    dist.init_process_group(backends, timeout=_PATIENCE)
    yield current_ranks(), device
    # After an error others may wait for this rank in the middle of a step: torchrun ends them when this process ends.
    dist.barrier()
    dist.destroy_process_group()


def run_on_ranks(device: str, work: Callable[[Ranks, str], None]) -> None:
    """Join the ranks that torchrun started, and run ``work`` with this rank and its device.

    A failure that all ranks share is told by the first one in one line, and ends all: with status 2 if what was asked
    for cannot be done (``SharedError``), with status 1 if a disk is full (``SharedOSError``) or the loss is not finite.

    Raises:
        ValueError: If there is one process, and its device cannot compute.
    """
    with join_ranks(device) as (ranks, own_device):
        try:
            checked = ranks.agree(lambda: require_device(own_device))
            if ranks.size > 1 and torch.device(checked).type == "cuda":
                torch.cuda.set_device(checked)
            work(ranks, checked)
            return
        except (SharedError, SharedOSError, FloatingPointError) as error:
            status = 2 if isinstance(error, SharedError) else 1
            if ranks.is_first:
                sys.stderr.write(f"genie-gym: {error}\n")
                sys.stderr.flush()
    raise SystemExit(status)  # after all have left the group: torchrun ends the others as soon as one has ended


def own_rows(shares: list[Share]) -> np.ndarray:
    """Return which clips of a batch belong to the shares of one rank: (rows of all parts,) int64."""
    return np.concatenate([np.arange(share.first, share.first + share.rows) for share in shares])


def require_divisible(config: TrainConfig, ranks: int, name: str = "TrainConfig") -> None:
    """Raise a ValueError unless ranks and accumulated parts divide the batch."""
    size, parts = config.batch_size, config.accumulate
    if size % (ranks * parts):
        share = f"{ranks} ranks x accumulate {parts}" if parts > 1 else f"{ranks} ranks"
        raise ValueError(f"{name}.batch_size must be a multiple of {ranks * parts} ({share}), got {size}")


def require_phases(preset: Preset, ranks: int) -> None:
    """Raise a ValueError unless every phase can be trained by this number of ranks."""
    for name in ("tokenizer_training", "action_training", "world_training"):
        config = getattr(preset, name)
        if config is not None:
            require_divisible(config, ranks, f"Preset.{name}")


class Stop(enum.IntEnum):
    """Why a run stops before its last step; of several ranks' reasons the greatest counts."""

    NOT = 0
    TIME = 1
    SIGINT = 2
    SIGTERM = 3

    @property
    def exit_status(self) -> int:
        """Exit status of a run that a signal stopped, after it was saved: 130 or 143."""
        return 128 + signal.Signals[self.name]


class StopSignal:
    """A context in which SIGTERM and Ctrl-C ask the run to save and end, where they would kill the process otherwise.

    A single process obeys a second Ctrl-C at once. Of several, torchrun sends each of them a signal after the
    keyboard's.

    Args:
        deadline: Time of ``time.monotonic`` after which the run is to stop too.
        ranks: This rank and the number of them.
    """

    def __init__(self, deadline: float, ranks: Ranks) -> None:
        self._deadline, self._ranks, self._received = deadline, ranks, Stop.NOT
        self._earlier: dict[signal.Signals, Any] = {}

    def ask(self) -> Stop:
        """Return whether this process wants to stop, and why."""
        return max(self._received, Stop(time.monotonic() > self._deadline))

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            # A shell has commands in the background ignore the keyboard, and they go on doing so.
            heard = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
            self._earlier = {each: signal.signal(each, self._receive) for each in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._earlier.items():
            signal.signal(each, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        self._received = max(self._received, Stop[received.name])
        if received is signal.SIGINT and self._ranks.size == 1:
            signal.signal(received, self._earlier[received])


def list_differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the dotted paths at which two JSON values differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [*one, *(name for name in other if name not in one)]
        inner = [list_differences(one.get(name), other.get(name), f"{path}.{name}".lstrip(".")) for name in names]
        return [text for texts in inner for text in texts]
    return [] if one == other else [f"{path} ({other!r}, not {one!r})"]
