"""One step of training: the losses of a batch's parts, their gradients averaged over ranks, and the optimiser."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.nn.ranks import Share, share_batch
from genie_gym.training.distributed import Stop
from genie_gym.training.optim import clip_gradients, learning_rate
from genie_gym.training.sharding import Engine


@dataclass(frozen=True)
class Stepper:
    """Takes optimiser steps on this rank's share of each batch."""

    engine: Engine
    """holder of the weights"""
    optimizer: Optimizer
    """optimiser of the engine's module"""
    config: TrainConfig
    """hyperparameters of the phase"""
    shares: Sequence[Share]
    """this rank's rows in each part of a batch"""

    def take(
        self,
        batch: Batch,
        step: int,
        ask: Callable[[], Stop] = lambda: Stop.NOT,
        watch: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> tuple[dict[str, Tensor], Stop]:
        """Take one step and return its metrics, and whether any rank wants to stop after it, and why.

        Args:
            batch: The rows of the batch that this rank holds: those of its first share first.
            step: Number of the step.
            ask: Function that says whether this rank wants to stop, called towards the end of the step.
            watch: Maker of a context for the forward pass of each part.

        Raises:
            FloatingPointError: If the loss is NaN or infinite, on every rank; the weights stay as they are.
        """
        rate = learning_rate(step, self.config.train_steps, self.config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        module = self.engine.module
        module.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, metrics = self._differentiate(batch, step, watch)
        stop = self._vote(loss, step, ask)
        norms = clip_gradients(module, self.config.optimizer.clip_norm)
        self.optimizer.step()
        # Fused optimisers do not increment the versions of weights, by which packed copies of them notice a change.
        torch.autograd.graph.increment_version(list(module.parameters()))
        return {"loss": loss, "learning_rate": torch.tensor(rate), **metrics, **norms}, stop

    def parts(self, batch: Batch) -> list[Batch]:
        """Return the rows of each part of a batch."""
        if len(self.shares) == 1:
            return [batch]
        videos, numbers = (each.chunk(len(self.shares)) for each in batch)
        return [Batch(*part) for part in zip(videos, numbers, strict=True)]

    def _differentiate(
        self, batch: Batch, step: int, watch: Callable[[], contextlib.AbstractContextManager[object]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradients, and return the mean loss and metrics of the parts."""
        parts, outputs = self.parts(batch), list[LossOutput]()
        for number, (part, share) in enumerate(zip(parts, self.shares, strict=True)):
            torch.manual_seed(step_seed(self.config.seed, step))  # each part cuts its rows from the same numbers
            is_last = number + 1 == len(parts)
            is_whole = share.rows == share.batch
            sharing = contextlib.nullcontext() if is_whole else share_batch(share)
            with sharing, contextlib.nullcontext() if is_last else self.engine.wait():
                with watch():
                    output = self.engine.call(part)
                (output.loss if len(parts) == 1 else output.loss / len(parts)).backward()
            outputs.append(LossOutput(output.loss.detach(), output.metrics))
        if len(parts) == 1:
            return outputs[0]
        means = {name: torch.stack([each.metrics[name] for each in outputs]).mean() for name in outputs[0].metrics}
        return torch.stack([each.loss for each in outputs]).mean(), means

    def _vote(self, loss: Tensor, step: int, ask: Callable[[], Stop]) -> Stop:
        """Return whether any rank wants to stop; raise on all ranks if the loss of any is not finite."""
        is_bad, stop = not bool(torch.isfinite(loss)), ask()
        value = loss.item() if is_bad else "not finite on another rank"
        if self.shares[0].ranks > 1:
            votes = torch.tensor([int(is_bad), int(stop)])
            dist.all_reduce(votes, dist.ReduceOp.MAX)
            is_bad, stop = bool(votes[0]), Stop(int(votes[1]))
        if is_bad:
            raise FloatingPointError(f"loss is {value} at step {step}: lower the learning rate, or check the data")
        return stop


def step_seed(seed: int, step: int) -> int:
    """Return the seed of one step's masks and noise."""
    return (seed * 1_000_003 + step) % 2**63
