"""The training loop of all models: it trains any ``Trainee``, a module with ``loss(batch) -> LossOutput``.

Several processes run the same loop (``distributed``), each on its rows of every batch.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from genie_gym.config_io import vary
from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput, Model
from genie_gym.serving import native_precision
from genie_gym.system import keep_freed_memory
from genie_gym.training.checkpoint import RunSaver, has_run, read_precision, require_config, resume_run
from genie_gym.training.distributed import Ranks, Stop, StopSignal, current_ranks, own_rows
from genie_gym.training.logs import RunLogger
from genie_gym.training.optim import build_optimizer
from genie_gym.training.precision import fastest_precision
from genie_gym.training.sharding import Engine, parallelise
from genie_gym.training.step import Stepper, step_seed

Batches = Callable[..., Iterator[Batch]]
"""A function (first batch, number of batches) -> batches; equal arguments give equal batches.

With several processes it has to take a third argument: the (R,) rows of each batch that this process reads."""


class Trainee(nn.Module):
    """A base class of modules to train: a loss, and metrics and pictures for TensorBoard, by default none."""

    frame_tokens = 0
    """Number of tokens in a frame, for the speed in TensorBoard; 0 if frames have none."""

    def forward(self, batch: Batch, method: str = "loss") -> Any:
        """Call a method on a batch: only calls of a module itself gather its sharded weights."""
        return getattr(self, method)(batch)

    def loss(self, batch: Batch) -> LossOutput:
        """Return the loss and metrics of videos (B, T, C, H, W)."""
        raise NotImplementedError

    def set_precision(self, precision: str) -> None:
        """Compute the features of every ``Model`` in it in ``float32`` or ``bfloat16`` from now on."""
        for module in self.modules():
            if isinstance(module, Model):
                module.set_precision(precision)

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Return slower metrics, computed every ``log_every`` steps in eval mode."""
        return {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return pictures (C, H, W) in [0, 1] by name, drawn every ``picture_every`` steps in eval mode."""
        return {}


@dataclass(frozen=True)
class Phase:
    """One phase of training, which can be interrupted and resumed.

    All randomness of a step follows from the seed and the step's number, so that on a CPU an interrupted and resumed
    run equals an uninterrupted one bit for bit.
    """

    batches: Batches
    """source of training batches"""
    config: TrainConfig
    """hyperparameters of the phase"""
    folder: Path
    """folder of the run: its state and TensorBoard logs"""
    minutes: float | None = None
    """time limit of one call of ``run``, in minutes; a checkpoint is saved when it is over"""
    progress: bool = True
    """whether to show a progress bar"""
    device: str | None = None
    """device to train on; by default that of the weights"""

    @property
    def has_started(self) -> bool:
        """Whether the folder holds a run to resume."""
        return has_run(self.folder)

    def seed_start(self) -> None:
        """Seed torch's generator for what is drawn before the first step."""
        torch.manual_seed(step_seed(self.config.seed, -1))

    def settle(self, trainee: Trainee) -> "Phase":
        """Set the trainee's precision, and return this phase with a precision in place of ``auto``.

        A run in the folder keeps the precision that it began with, even if another one would be faster now. A new run
        takes the fastest one, for which a few steps may be timed; they leave neither weights nor random numbers
        changed.
        """
        precision: str = self.config.precision
        if precision == "auto":
            ranks, stored = current_ranks(), read_precision(self.folder)
            precision, reason = (stored, "as the run began") if stored else self._find_fastest(trainee, ranks)
            if self.progress and ranks.is_first:
                tqdm.write(f"training in {precision}, {reason}: {self.folder}", file=sys.stderr)
        trainee.set_precision(precision)
        return replace(self, config=vary(self.config, {"precision": precision}))

    def _place(self, trainee: Trainee) -> torch.device:
        return next(trainee.parameters()).device if self.device is None else torch.device(self.device)

    def _find_fastest(self, trainee: Trainee, ranks: Ranks) -> tuple[str, str]:
        """Return the fastest precision of training steps, and the reason; the trainee's weights are restored.

        Several processes time nothing, since each might find another one: they take what the first one's device plays
        fastest in.
        """
        if ranks.size > 1:
            return ranks.gather(native_precision(self._place(trainee)))[0], "as the first device computes"
        keep_freed_memory()
        before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
        config, shares = self.config, ranks.split(self.config)
        steppers = {
            name: Stepper(Engine(trainee, trainee), build_optimizer(trainee, config.optimizer, name), config, shares)
            for name in ("float32", "bfloat16")
        }

        def step(precision: str, number: int) -> None:
            trainee.set_precision(precision)
            steppers[precision].take(batch, number)

        with torch.random.fork_rng(devices=[]):
            batch = next(iter(self.batches(0, 1)))
            found = fastest_precision(next(trainee.parameters()).device, step)
        trainee.load_state_dict(before)
        trainee.zero_grad(set_to_none=True)
        return found

    def run(self, trainee: Trainee) -> int:
        """Train from the run's last checkpoint, or from the start, to the last step or the time limit.

        SIGTERM and Ctrl-C have the run saved, then raise SystemExit with status 143 or 130, on every rank.

        Args:
            trainee: Module whose parameters that require gradients are trained.

        Returns:
            Number of steps done by all calls.

        Raises:
            ValueError: If the folder holds a run of another config or model, or ranks and parts do not divide a batch.
            FloatingPointError: If the loss is NaN or infinite.
        """
        keep_freed_memory()
        deadline = float("inf") if self.minutes is None else time.monotonic() + 60 * self.minutes
        config, ranks = self.settle(trainee).config, current_ranks()
        where, shares = self._place(trainee), ranks.split(config)
        ranks.require_same({f"steps done in {self.folder}": ranks.agree(lambda: require_config(self.folder, config))})
        engine = parallelise(trainee, config, ranks, where)
        optimizer = build_optimizer(engine.module, config.optimizer, config.precision)
        step = first = ranks.agree(lambda: resume_run(self.folder, engine.module, optimizer, config))
        stepper, saver = Stepper(engine, optimizer, config, shares), RunSaver(self.folder, ranks)
        rows, stop = (() if ranks.size == 1 else (own_rows(shares),)), Stop.NOT
        with (
            RunLogger(self.folder, config, ranks, where, first, self.progress) as logger,
            StopSignal(deadline, ranks) as signal,
        ):
            for batch in self.batches(first, config.train_steps - first, *rows):
                metrics, stop = stepper.take(batch, step, signal.ask, logger.watch(step == first))
                logger.log(stepper, batch, metrics, step)
                step += 1
                is_last = step == config.train_steps or stop != Stop.NOT
                if is_last or step % config.checkpoint_every == 0:
                    saver.save(step, engine.module, optimizer, config)
                saver.poll()
                if is_last:
                    break
            saver.wait()
        if stop > Stop.TIME:
            if ranks.is_first:
                tqdm.write(f"stopped by {stop.name} after step {step}, saved in {self.folder}", file=sys.stderr)
            raise SystemExit(stop.exit_status)
        engine.restore()
        return step
