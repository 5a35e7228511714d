"""The only training loop: anything with ``loss(batch) -> LossOutput`` is trained by it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.system import keep_freed_memory
from genie_gym.training.checkpoint import resume_run, save_run
from genie_gym.training.optim import build_optimizer, clip_gradients, learning_rate

Batches = Callable[[int, int], Iterator[Batch]]
"""(first batch, number of batches) -> batches, the same for the same numbers."""


class Trainee(Protocol):
    """One phase of training: a module that gives a loss, and what is worth watching."""

    def loss(self, batch: Batch) -> LossOutput:
        """Videos (B, T, C, H, W) to a loss and its metrics."""

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Slower metrics, taken now and then."""

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures (C, H, W) in [0, 1] by name."""


class BareTrainee(nn.Module):
    """A base for those with nothing to watch but their loss."""

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing beyond the loss's own metrics."""
        return {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """None."""
        return {}


def train(
    trainee: Trainee,
    batches: Batches,
    config: TrainConfig,
    out: Path,
    minutes: float | None = None,
    progress: bool = True,
) -> int:
    """Train, from where the run in ``out`` stands, to the last step or until ``minutes`` are over.

    All chance in a step follows from the seed and the step's number, so that an interrupted and resumed run
    equals an uninterrupted one bit for bit on a CPU.

    Args:
        trainee: An ``nn.Module``; its parameters that want gradients are trained.
        batches: Where clips come from.
        config: How.
        out: Folder of checkpoints and TensorBoard logs.
        minutes: Stop after these, with a checkpoint.
        progress: Show a bar.

    Returns:
        Steps done in all.

    Raises:
        ValueError: If ``out`` holds a run of another config or model.
    """
    assert isinstance(trainee, nn.Module)
    keep_freed_memory()
    optimizer = build_optimizer(trainee, config.optimizer)
    first = resume_run(out, trainee, optimizer, config)
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    step = first
    with (
        SummaryWriter(out / "log", purge_step=first) as writer,
        tqdm(total=config.train_steps, initial=first, unit="step", disable=not progress, mininterval=2) as bar,
    ):
        for batch in batches(first, config.train_steps - first):
            torch.manual_seed(step_seed(config.seed, step))
            output = _update(trainee, batch, optimizer, config, step)
            _watch(trainee, batch, output, writer, bar, config, step)
            step += 1
            is_last = step == config.train_steps or time.monotonic() > deadline
            if is_last or step % config.checkpoint_every == 0:
                save_run(out, step, trainee, optimizer, config)
            if is_last:
                break
    return step


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's masks and noise."""
    return (seed * 1_000_003 + step) % 2**63


def _update(
    trainee: Trainee, batch: Batch, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int
) -> dict[str, Tensor]:
    assert isinstance(trainee, nn.Module)
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
    torch.autograd.graph.increment_version(list(trainee.parameters()))  # which fused optimizers leave as it is
    return {"loss": output.loss.detach(), "learning_rate": torch.tensor(rate), **output.metrics, **norms}


def _watch(
    trainee: Trainee,
    batch: Batch,
    metrics: dict[str, Tensor],
    writer: SummaryWriter,
    bar: "tqdm[object]",
    config: TrainConfig,
    step: int,
) -> None:
    assert isinstance(trainee, nn.Module)
    bar.update()
    if step % config.log_every == 0:
        trainee.eval()
        torch.manual_seed(step_seed(config.seed, step))
        metrics = metrics | trainee.probe(batch)
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        shown = {name: f"{float(value):.3g}" for name, value in metrics.items() if "gradient" not in name}
        bar.set_postfix(shown, refresh=False)
    if config.picture_every and step % config.picture_every == 0:
        trainee.eval()
        for name, picture in trainee.pictures(batch).items():
            writer.add_image(name, picture, step)
