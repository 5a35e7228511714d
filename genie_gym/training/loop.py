"""The training loop of all models: it trains any ``Trainee``, a module with ``loss(batch) -> LossOutput``."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from genie_gym.config_io import vary
from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput, Model
from genie_gym.system import keep_freed_memory
from genie_gym.training.checkpoint import has_run, read_precision, resume_run, save_run
from genie_gym.training.optim import build_optimizer, clip_gradients, learning_rate
from genie_gym.training.precision import fastest_precision

Batches = Callable[[int, int], Iterator[Batch]]
"""A function (first batch, number of batches) -> batches; equal arguments give equal batches."""
_Values = dict[str, Tensor]


class Trainee(nn.Module):
    """A base class of modules to train: a loss, and metrics and pictures for TensorBoard, by default none."""

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
            stored = read_precision(self.folder)
            precision, reason = (stored, "as the run began") if stored else self._find_fastest(trainee)
            if self.progress:
                tqdm.write(f"training in {precision}, {reason}: {self.folder}", file=sys.stderr)
        trainee.set_precision(precision)
        return replace(self, config=vary(self.config, {"precision": precision}))

    def _find_fastest(self, trainee: Trainee) -> tuple[str, str]:
        """Return the fastest precision of training steps, and the reason; the trainee's weights are restored."""
        keep_freed_memory()
        before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
        config = self.config
        optimizers = {name: build_optimizer(trainee, config.optimizer, name) for name in ("float32", "bfloat16")}

        def step(precision: str, number: int) -> None:
            torch.manual_seed(step_seed(config.seed, number))
            trainee.set_precision(precision)
            _update(trainee, batch, optimizers[precision], config, number)

        with torch.random.fork_rng(devices=[]):
            batch = next(iter(self.batches(0, 1)))
            found = fastest_precision(next(trainee.parameters()).device, step)
        trainee.load_state_dict(before)
        trainee.zero_grad(set_to_none=True)
        return found

    def run(self, trainee: Trainee) -> int:
        """Train from the run's last checkpoint, or from the start, to the last step or the time limit.

        Args:
            trainee: Module whose parameters that require gradients are trained.

        Returns:
            Number of steps done by all calls.

        Raises:
            ValueError: If the folder holds a run of another config or model.
            FloatingPointError: If the loss is NaN or infinite.
        """
        keep_freed_memory()
        deadline = float("inf") if self.minutes is None else time.monotonic() + 60 * self.minutes
        config = self.settle(trainee).config
        optimizer = build_optimizer(trainee, config.optimizer, config.precision)
        step = first = resume_run(self.folder, trainee, optimizer, config)
        with (
            SummaryWriter(self.folder / "log", purge_step=first) as writer,
            tqdm(total=config.train_steps, initial=first, unit="step", disable=not self.progress, mininterval=2) as bar,
        ):
            for batch in self.batches(first, config.train_steps - first):
                torch.manual_seed(step_seed(config.seed, step))
                metrics = _update(trainee, batch, optimizer, config, step)
                bar.update()
                self._log(trainee, batch, metrics, writer, bar, step)
                step += 1
                is_last = step == config.train_steps or time.monotonic() > deadline
                if is_last or step % config.checkpoint_every == 0:
                    save_run(self.folder, step, trainee, optimizer, config)
                if is_last:
                    break
        return step

    def _log(
        self, trainee: Trainee, batch: Batch, metrics: _Values, writer: SummaryWriter, bar: "tqdm[object]", step: int
    ) -> None:
        """Log metrics and pictures; since each step seeds the generator anew, this does not change the run."""
        if step % self.config.log_every == 0:
            trainee.eval()
            torch.manual_seed(step_seed(self.config.seed, step))
            metrics = metrics | trainee.probe(batch)
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            shown = {name: f"{float(value):.3g}" for name, value in metrics.items() if "gradient" not in name}
            bar.set_postfix(shown, refresh=False)
        if self.config.picture_every and step % self.config.picture_every == 0:
            trainee.eval()
            for name, picture in trainee.pictures(batch).items():
                writer.add_image(name, picture, step)


def step_seed(seed: int, step: int) -> int:
    """Return the seed of one step's masks and noise."""
    return (seed * 1_000_003 + step) % 2**63


def _update(trainee: Trainee, batch: Batch, optimizer: Optimizer, config: TrainConfig, step: int) -> _Values:
    """Take one optimiser step and return its metrics."""
    rate = learning_rate(step, config.train_steps, config.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = rate
    trainee.train()
    output = trainee.loss(batch)
    if not torch.isfinite(output.loss):
        raise FloatingPointError(f"loss is {output.loss.item()} at step {step}: lower learning_rate")
    optimizer.zero_grad(set_to_none=True)
    output.loss.backward()
    norms = clip_gradients(trainee, config.optimizer.clip_norm)
    optimizer.step()
    # Fused optimisers do not increment the versions of weights, by which packed copies of them notice a change.
    torch.autograd.graph.increment_version(list(trainee.parameters()))
    return {"loss": output.loss.detach(), "learning_rate": torch.tensor(rate), **output.metrics, **norms}
