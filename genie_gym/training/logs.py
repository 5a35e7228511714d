"""What a run shows while it trains: TensorBoard and a progress bar, by the first rank for all."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.nn.ranks import share_batch
from genie_gym.training.distributed import Ranks
from genie_gym.training.speed import FlopCounter, Meter, find_peak
from genie_gym.training.step import Stepper, step_seed

Watch = Callable[[], contextlib.AbstractContextManager[object]]


@contextlib.contextmanager
def _leave_to_loop() -> Iterator[None]:
    """Keep TensorBoard's thread from printing that it cannot write; the next call that logs raises the error again."""
    told = threading.excepthook

    def tell(failure: threading.ExceptHookArgs) -> None:
        is_log = type(failure.thread).__module__.startswith("tensorboard.")
        if not (is_log and isinstance(failure.exc_value, OSError)):
            told(failure)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = told


class RunLogger(contextlib.ExitStack):
    """A context that logs a run's metrics, speed and pictures; it changes nothing of the run.

    Args:
        folder: Folder of the run.
        config: Config of the phase, with a precision in place of ``auto``.
        ranks: This rank and the number of them.
        device: Device of this rank.
        first: Number of the first step.
        progress: Whether to show a progress bar.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, ranks: Ranks, device: torch.device, first: int, progress: bool
    ) -> None:
        super().__init__()
        self._config, self._ranks, self._counter = config, ranks, FlopCounter()
        peak = find_peak(device, config.precision)
        self._meter = Meter(device, None if peak is None else peak * ranks.size)
        writes, steps = ranks.is_first, config.train_steps
        self.enter_context(_leave_to_loop())
        self._writer = self.enter_context(SummaryWriter(folder / "log", purge_step=first)) if writes else None
        bar = tqdm(total=steps, initial=first, unit="step", disable=not (progress and writes), mininterval=2)
        self._bar = self.enter_context(bar)

    def watch(self, is_first: bool) -> Watch:
        """Return the maker of contexts for a step's forward passes: the run's first one is counted, if it is of use."""
        if not is_first or self._meter.peak is None:
            return contextlib.nullcontext
        return self._count

    @contextlib.contextmanager
    def _count(self) -> Iterator[None]:
        # Compiled code hides its operations.
        with torch.compiler.set_stance("force_eager"), self._counter:
            yield
        self._meter.flops = self._counter.flops * self._ranks.size

    def log(self, stepper: Stepper, batch: Batch, metrics: dict[str, Tensor], step: int) -> None:
        """Log a step: since each step seeds the generator anew, this does not change the run.

        Every rank has to call this, since a probe may sum over ranks.
        """
        config, module = self._config, cast(Any, stepper.engine.module)  # a Trainee, which the loop defines
        self._bar.update()
        self._meter.tick()
        if step % config.log_every == 0:
            module.eval()
            torch.manual_seed(step_seed(config.seed, step))
            share = stepper.shares[0]
            sharing = contextlib.nullcontext() if share.rows == share.batch else share_batch(share)
            with sharing:
                metrics = metrics | stepper.engine.call(stepper.parts(batch)[0], "probe")
            if self._writer is not None:
                self._write(self._writer, metrics, module.frame_tokens, step)
        is_drawn = config.picture_every and step % config.picture_every == 0
        if is_drawn and self._writer is not None and (self._ranks.size == 1 or config.sharding != "fsdp"):
            module.eval()
            for name, picture in module.pictures(batch).items():
                self._writer.add_image(name, picture, step)

    def _write(self, writer: SummaryWriter, metrics: dict[str, Tensor], frame_tokens: int, step: int) -> None:
        frames = self._config.batch_size * self._config.clip_length
        speed = self._meter.count(frames, frames * frame_tokens)
        for name, value in (metrics | speed).items():
            writer.add_scalar(name, value, step)
        shown = {name: f"{float(value):.3g}" for name, value in metrics.items() if "gradient" not in name}
        self._bar.set_postfix(shown, refresh=False)
