"""Commands killed at random moments: what they leave, whether their children end, and what the next run makes of it.

    python -m experiments.trust.kills --preset full

Recording (by one process and by two), training, the agents' benchmark and saving over a checkpoint are each run whole
once. Then each is begun in an empty folder, killed by SIGKILL at a random moment, and run again to its end: its files
have to be those of the whole run, byte by byte, none of its processes may live on, and no temporary file may be left.
Commands run in forks of this process, so that the moments lie in their work and not in their imports.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from genie_gym.checks import require
from genie_gym.failures import run_command
from genie_gym.results.experiment import Experiment
from genie_gym.results.files import current_commit, read_results
from genie_gym.system import end_with_parent

_PATIENCE = 60
"""Seconds that the processes of a killed command have to end, on a machine that does other things too."""
_HANG = 600
"""Seconds after which a command counts as hung."""
_BENCHMARK: dict[str, Any] = {"modes": ["easy"], "frames": 512, "labelled_frames": 256, "labels": [16], "seeds": 1}
_BENCHMARK |= {"levels": 2, "core_levels": 2, "core_among": 6, "train_steps": 4, "batch_size": 16}
_BENCHMARK |= {"labelled_steps": 2, "inverse_steps": 2}
_METHODS = ("lam", "labelled_only", "marginal")
_TIMES = {"minutes", "cpu_seconds", "cpu", "commit"}
"""Fields of results that differ from run to run."""


@dataclass(frozen=True)
class Operation:
    """A command to kill at a random moment."""

    run: Callable[[Path, int], None]
    """Function that does what is left of it in a folder, for a moment's number, or -1 for a run to the end."""
    digest: Callable[[Path], Any]
    """Function that identifies what it made."""
    prepare: Callable[[Path], None] = lambda folder: None
    """Function that makes what all runs read, in the folder that holds theirs."""
    seconds: float | None = None
    """Processor time in which the moment lies; by default that of the whole run."""


@dataclass(frozen=True, kw_only=True)
class Kills(Experiment):
    """Kill commands at random moments, run them again, and count what differs from an undisturbed run.

    The row of an operation replaces its earlier one.
    """

    name = "kills"
    moments: int | None = None
    """number of moments of each operation; by default 3 for smoke and 30 for full"""
    operations: tuple[str, ...] = ("save", "record", "train", "benchmark")
    """operations to kill"""

    def run(self) -> None:
        """Kill, print and write the results."""
        known = _list_operations()
        require(set(self.operations) <= set(known), "operations", self.operations, f"among {tuple(known)}")
        moments = {"smoke": 3, "full": 30}[self.preset] if self.moments is None else self.moments
        require(moments > 0, "moments", moments, "positive")
        _import_commands()
        for name in self.operations:
            row = self._kill(name, known[name], moments)
            earlier = read_results(self.json)["operations"] if self.json.exists() else []
            kept = [each for each in earlier if each["operation"] != name]
            self.write({"operations": [*kept, {**row, "commit": current_commit()}]})

    def _kill(self, name: str, operation: Operation, moments: int) -> dict[str, Any]:
        """Return the row of an operation."""
        folder, rng = self.run_folder / name, np.random.default_rng(self.seed)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        operation.prepare(folder)
        seconds = _finish(operation, folder / "whole")
        whole = operation.digest(folder / "whole")
        row: dict[str, Any] = {
            "operation": name,
            "cpu_seconds": round(seconds, 1),
            "moments": moments,
            "killed_at_work": 0,
        }
        row |= {"orphans": 0, "not_equal": 0, "left_over": 0, "longest_end_s": 0.0}
        for number in tqdm(range(moments), desc=name):
            out = folder / f"moment-{number:02d}"
            process = _fork(operation, out, number)
            row["killed_at_work"] += _wait_until(process, rng.uniform(0, operation.seconds or seconds))
            ended = _kill_process(process)
            row["orphans"] += len(list(_list_session(process)))
            row["longest_end_s"] = max(row["longest_end_s"], round(ended, 1))
            _finish(operation, out)
            row["not_equal"] += operation.digest(out) != whole
            row["left_over"] += len(_list_left(out))
            shutil.rmtree(out)
        shutil.rmtree(folder)
        tqdm.write(json.dumps(row))
        return row


def _fork(operation: Operation, out: Path, number: int) -> int:
    """Run an operation in a fork of this process that leads a session, and return its number; it writes to a log."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        end_with_parent()
        log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        operation.run(out, number)
        os._exit(0)
    except BaseException:  # noqa: BLE001  # whatever it was, this process must not go on as the experiment
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _finish(operation: Operation, out: Path) -> float:
    """Run an operation to its end and return its processor seconds; ``RuntimeError`` if it fails or hangs."""
    process, deadline = _fork(operation, out, -1), time.monotonic() + _HANG
    while (ended := os.wait4(process, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended[0] == 0:
        _kill_process(process)
    if ended[0] == 0 or ended[1] != 0:
        raise RuntimeError(f"{out} was not finished: {out.with_suffix('.log').read_text()[-2000:]}")
    return ended[2].ru_utime + ended[2].ru_stime


def _wait_until(process: int, seconds: float) -> bool:
    """Wait until a session has spent processor seconds, and return whether its leader is still at work then."""
    while sum(spent for _, spent in _list_session(process)) < seconds:
        if os.waitpid(process, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.01)
    return os.waitpid(process, os.WNOHANG) == (0, 0)


def _kill_process(process: int) -> float:
    """Kill the leader of a session, and return the seconds until the others have ended, at most ``_PATIENCE``."""
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # it had ended by itself
    began = time.monotonic()
    while list(_list_session(process)) and time.monotonic() - began < _PATIENCE:
        time.sleep(0.05)
    return time.monotonic() - began


def _list_session(leader: int) -> Iterator[tuple[int, float]]:
    """Yield the processes of a session that run, and the processor seconds of each and its ended children."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if int(fields[3]) == leader and fields[0] != "Z":
                yield int(folder.name), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _list_left(folder: Path) -> list[Path]:
    """Return what only a process that works may leave: temporary files, locks, folders of new shards."""
    return [path for path in folder.rglob("*") if ".tmp" in path.name or path.name in {".lock", ".new"}]


def _digest_files(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return the digests of a folder's files by name, but for the logs, which hold times."""
    files = [path for path in sorted(folder.rglob(pattern)) if path.is_file() and "tfevents" not in path.name]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _import_commands() -> None:
    import genie_gym.data.record
    import genie_gym.training.run  # noqa: F401


def _record(out: Path, number: int) -> None:
    """Record twelve shards, by two processes at every other moment."""
    workers = 2 if number > 0 and number % 2 else 1
    from genie_gym.data.config import RecordConfig
    from genie_gym.data.record import record
    from genie_gym.players.specs import parse_shares

    config = RecordConfig(frames=6000, num_envs=8, frames_per_shard=500, num_levels=100)
    record(config, parse_shares(("random", "sticky=0.8")), out, progress=False, workers=workers)


def _train(out: Path, number: int) -> None:
    """Train the preset ``tiny``, saving every three steps."""
    from genie_gym import cli

    data, steps = out.parent / "data", ("train-steps", "12", "checkpoint-every", "3", "precision", "float32")
    phases = ("tokenizer-training", "world-training")
    values = [f"--{phase}.{text}" if place % 2 == 0 else text for phase in phases for place, text in enumerate(steps)]
    sys.argv = ["genie-gym", "train", "tiny", "--data", str(data), "--out", str(out), "--start-clips", "4", *values]
    cli.main()


def _benchmark(out: Path, number: int) -> None:
    """Play a few methods of the agents' benchmark at sizes of their own, in float32: ``auto`` times steps to choose."""
    from agents import benchmark
    from agents.config import POLICIES

    benchmark.BENCHMARK_SIZES["smoke"] = _BENCHMARK
    policy = POLICIES["compact"]
    POLICIES["compact"] = replace(policy, training=replace(policy.training, precision="float32"))
    benchmark.Benchmark(methods=_METHODS, out=out / "out", work=out / "work").run()


def _digest_benchmark(out: Path) -> Any:
    """Return the results without times, and the digests of recordings and policies.

    The names of labels hold the times at which their recordings were written.
    """
    results = json.loads((out / "out" / "results" / "smoke" / "figure15_cloning.json").read_text())
    rows = [{name: value for name, value in row.items() if name not in _TIMES} for row in results["rows"]]
    return rows, _digest_files(out / "work", "shard-*.h5"), _digest_files(out / "work", "weights.safetensors")


def _save(out: Path, number: int) -> None:
    """Save two worlds in turn as one checkpoint, for ever at a moment, and the first of them in a run to the end."""
    import torch

    from genie_gym.models.loading import save_world
    from genie_gym.models.world_model import GenieWorldModel
    from genie_gym.presets import PRESETS

    checkpoint = out / "checkpoint"
    torch.manual_seed(0)
    worlds = [GenieWorldModel(PRESETS["tiny"].world) for _ in range(2)]
    if checkpoint.exists():  # one of the two, and whole
        found, place = _digest_files(checkpoint), out / "expected"
        whole = [_digest_files(save_world(world, place)) for world in worlds]
        shutil.rmtree(place)
        require(found in whole, "files of the killed checkpoint", sorted(found), "those of one world")
    save_world(worlds[0], checkpoint)
    while number >= 0:
        for world in reversed(worlds):
            save_world(world, checkpoint)


def _list_operations() -> dict[str, Operation]:
    return {
        "save": Operation(_save, _digest_files, seconds=1),
        "record": Operation(_record, _digest_files),
        "train": Operation(_train, _digest_files, prepare=lambda folder: _record(folder / "data", 0)),
        "benchmark": Operation(_benchmark, _digest_benchmark),
    }


if __name__ == "__main__":
    run_command(Kills)
