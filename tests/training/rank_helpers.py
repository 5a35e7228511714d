"""Two processes that train together, and what they do in tests; a module, since started processes import it."""

import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from genie_gym.config_io import vary
from genie_gym.configs import OptimizerConfig, TrainConfig, WorldConfig
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.distributed import current_ranks, join_ranks
from genie_gym.training.loop import Phase
from genie_gym.training.sharded_checkpoint import ShardedSaver
from genie_gym.training.tokenizer import train_tokenizer
from genie_gym.training.world import train_world
from tests.conftest import ST_LAM, moving_squares

HANG = 300
"""Seconds after which a process counts as hung."""
CONFIG = TrainConfig(
    train_steps=20,
    batch_size=4,
    clip_length=4,
    # Adam divides gradients by their size, so that the last bits of small ones grow: with 1e-3 losses agree to 2e-4.
    optimizer=OptimizerConfig(learning_rate=1e-4, final_learning_rate=1e-5, schedule="cosine", warmup_steps=3),
    precision="float32",
    checkpoint_every=1000,
    log_every=1,
    picture_every=0,
)
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "tokenizer": ("tokenizer", {"tokenizer.quantizer.restart_after": 2}),
    "late tokenizer": (
        "tokenizer",
        {"tokenizer.quantizer.start_after": 3, "tokenizer.quantizer.diversity_weight": 0.1},
    ),
    "actions": ("actions", {"latent_action_model.quantizer.restart_after": 2}),
    "st actions": (
        "actions",
        {
            **ST_LAM,
            "latent_action_model.hidden_frames": 0.5,
            "latent_action_model.quantizer": {"codes": 8, "dim": 8, "levels": (4, 2), "start_after": 3},
        },
    ),
    "dynamics": ("world", {"dynamics.action_conditioning": "film"}),
    "noisy dynamics": (
        "world",
        {"dynamics.context_corruption": 0.3, "dynamics.pasted_context": 0.7, "dynamics.own_context": 0.6},
    ),
    "frozen actions": ("dynamics", {"dynamics.context_corruption": 0.3, "dynamics.own_context": 0.6}),
    "token dynamics": ("world", {**ST_LAM, "latent_action_model.inputs": "tokens"}),
}
"""Name -> the phase, and the overrides of ``tiny`` that take it through the random and the statistical parts."""


def squares(first: int, number: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
    """Yield batches of four clips."""
    for index in range(first, first + number):
        batch = Batch(moving_squares(4, 4, seed=index), torch.arange(4) + 4 * index)
        yield batch if rows is None else Batch(batch.videos[rows], batch.numbers[rows])


def build(kind: str) -> tuple[str, GenieWorldModel]:
    """Return the phase of a kind of training and an untrained world."""
    phase, overrides = WORLDS[kind]
    config: WorldConfig = vary(PRESETS["tiny"].world, overrides)
    torch.manual_seed(0)
    return phase, GenieWorldModel(config)


def train(kind: str, folder: Path, changes: dict[str, Any], minutes: float | None = None) -> dict[str, Tensor]:
    """Train one phase, and return the world's weights afterwards."""
    name, world = build(kind)
    phase = Phase(squares, replace(CONFIG, **changes), folder, minutes, progress=False)
    if name == "tokenizer":
        train_tokenizer(world.tokenizer, phase)
    elif name == "actions":
        phase.run(ActionsTrainee(world.latent_action_model))
    else:
        train_world(world, phase, freezes_actions=name == "dynamics")
    return {key: tensor.clone() for key, tensor in world.state_dict().items()}


def curves(folder: Path) -> dict[str, list[float]]:
    """Return what a run has logged of each step, by name, without speed and memory."""
    log = EventAccumulator(str(folder / "log"), size_guidance={"scalars": 0}).Reload()
    names = [name for name in log.Tags()["scalars"] if not name.startswith(("speed/", "memory/"))]
    return {name: [event.value for event in log.Scalars(name)] for name in names}


def train_and_die(kind: str, folder: Path, changes: dict[str, Any], saves: int) -> None:
    """Train until rank 1 is killed in the middle of writing its part of a checkpoint, the one after ``saves``."""
    write, calls = HuggingFaceStorageWriter.write_data, list[Path]()

    def write_half(self: Any, *arguments: Any) -> Any:
        calls.append(self.path)
        if len(calls) <= saves or current_ranks().rank == 0:
            return write(self, *arguments)
        (Path(self.path) / "shard-00002-model-00001-of-00001.safetensors").write_bytes(b"half of it")
        return os.kill(os.getpid(), signal.SIGKILL)

    HuggingFaceStorageWriter.write_data = write_half
    train(kind, folder, changes)


def train_until_signal(folder: Path, step: int, number: signal.Signals) -> None:
    """Train until the process of rank 1 gets a signal, twice, in the middle of a step."""

    def interrupted(first: int, steps: int, rows: np.ndarray) -> Iterator[Batch]:
        for index, batch in enumerate(squares(first, steps, rows), start=first):
            if index == step and current_ranks().rank == 1:
                signal.raise_signal(number)
                signal.raise_signal(number)
            yield batch

    Phase(interrupted, CONFIG, folder, progress=False).run(ActionsTrainee(build("actions")[1].latent_action_model))


def train_on_spoiled_rows(folder: Path) -> None:
    """Train on batches of which the rows of rank 1 are not numbers."""

    def spoiled(first: int, steps: int, rows: np.ndarray) -> Iterator[Batch]:
        for batch in squares(first, steps, rows):
            yield batch._replace(videos=batch.videos * (torch.nan if current_ranks().rank == 1 else 1))

    Phase(spoiled, CONFIG, folder, progress=False).run(ActionsTrainee(build("actions")[1].latent_action_model))


def train_on_a_full_disk(folder: Path) -> None:
    """Train until a checkpoint is to be saved, of which rank 1 cannot write its part."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if current_ranks().rank == 1 else soft, hard))
    try:
        train("actions", folder, {"train_steps": 4, "checkpoint_every": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_damaged(rank: int) -> list[int]:
    """Read five items of which a rank cannot read the third."""

    def items() -> Iterator[int]:
        for number in range(5):
            if number == 2 and current_ranks().rank == rank:
                raise ValueError("shard 7 is corrupt")
            yield number

    return list(current_ranks().read(items()))


def save_while_one_rank_polls(folder: Path) -> list[int]:
    """Save three checkpoints, of which rank 1 alone notices early that they are written; return the steps left."""
    ranks = current_ranks()
    saver = ShardedSaver(folder, ranks, folder / "outdated")
    for step in range(3):
        saver.save({"weight": torch.full((2,), float(step))}, {"step": step, "config": {}})
        while ranks.rank == 1 and saver._future is not None:
            saver.poll()
            time.sleep(0.01)
    saver.wait()
    ranks.barrier()
    return sorted(int(path.name) for path in (folder / "steps").iterdir())


class Pair:
    """Two processes, joined by gloo as torchrun joins them, which do the same work together."""

    def __init__(self, size: int = 2) -> None:
        spawn = multiprocessing.get_context("spawn")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self._pipes = []
        self._processes = []
        for rank in range(size):
            mine, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, rank, size, port), daemon=True)
            process.start()
            self._pipes.append(mine)
            self._processes.append(process)

    def do(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what ``work`` returns on each rank; a failure is an exception of its place."""
        for pipe in self._pipes:
            pipe.send((work, arguments))
        results: dict[int, Any] = {}
        patience = HANG
        while len(results) < len(self._pipes):
            waiting = {pipe: rank for rank, pipe in enumerate(self._pipes) if rank not in results}
            ready = connection.wait(list(waiting), patience)
            if not ready:
                self.end()
                raise TimeoutError(f"only {results} came from {work.__name__}")
            for pipe in ready:
                results[waiting[pipe]] = pipe.recv()
                if isinstance(results[waiting[pipe]], Exception):
                    patience = 20  # the other rank may wait for this one for ever
        return [results[rank] for rank in sorted(results)]

    def check(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what ``work`` returns on each rank, which has to succeed."""
        results = self.do(work, *arguments)
        for rank, result in enumerate(results):
            assert not isinstance(result, Exception), f"rank {rank}: {result}"
        return results

    def end(self) -> None:
        """End both processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(10)
            process.kill()


def _serve(pipe: Any, rank: int, size: int, port: int) -> None:
    """Do the work that comes through the pipe until it is closed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background of a shell
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_ranks("cpu"):
        assert current_ranks().size == size
        while True:
            try:
                work, arguments = pipe.recv()
            except EOFError:
                return
            try:
                result = work(*arguments)
            except BaseException as error:  # noqa: BLE001
                traceback.print_exc()
                result = error if isinstance(error, Exception) else RuntimeError(repr(error))
            pipe.send(result)


def disagree() -> None:
    """Require a config in which ranks differ."""
    ranks = current_ranks()
    ranks.require_same({"preset": {"batch_size": ranks.rank, "seed": 0}})


def fail_on_second() -> None:
    """Do work that fails on rank 1 alone."""

    def work() -> int:
        if current_ranks().rank == 1:
            raise ValueError("shard 7 is missing")
        return 0

    current_ranks().agree(work)
