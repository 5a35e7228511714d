"""The ceiling of a latent action model: what a supervised network with the same inputs tells of the true actions."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.data.clips import Batch
from genie_gym.metrics.held_out import Pool, read_actions
from genie_gym.metrics.latent_actions import GROUPS, group_actions
from genie_gym.models.base import LossOutput
from genie_gym.nn.convolution import StridedEncoder, stack_transitions
from genie_gym.nn.layers import Linear
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.training.loop import BareTrainee, Phase

WIDTH, FEATURES = 32, 128
BATCH_SIZE, WARMUP_STEPS = 16, 20


class InverseModel(BareTrainee):
    """The last frames and the next to the kind of the action between, for each of ``GROUPS``.

    Args:
        history: Frames up to t that it sees.
        size: Height and width in pixels.
        pool: Whose real actions it is trained on.
    """

    def __init__(self, history: int, size: tuple[int, int], pool: Pool) -> None:
        super().__init__()
        self.history, self._pool = history, pool
        self.encoder = StridedEncoder(3 * (history + 2), WIDTH, FEATURES, size)
        self.heads = nn.ModuleDict({name: Linear(FEATURES, kinds) for name, kinds in GROUPS.items()})

    def forward(self, videos: Tensor) -> dict[str, Tensor]:
        """(B, T, C, H, W) -> logits (B, T - 1, kinds) by group."""
        return self._tell(stack_transitions(videos, self.history))

    def _tell(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, M, (history + 2) C, H, W) -> logits (B, M, kinds) by group."""
        flat = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = F.relu(self.encoder(flat))
        return {name: head(features).unflatten(0, pixels.shape[:2]) for name, head in self.heads.items()}

    def loss(self, batch: Batch) -> LossOutput:
        """Cross-entropy with every kind of action weighing the same, as in balanced accuracy.

        Of two neighbouring transitions, which tell much the same, one is taken.
        """
        rows = slice(int(torch.randint(2, ())), None, 2)
        kinds = group_actions(read_actions(self._pool.dataset, batch.numbers.numpy())[:, rows])
        logits = self._tell(stack_transitions(batch.videos, self.history)[:, rows])
        losses, metrics = [], {}
        for name, size in GROUPS.items():
            counts = torch.bincount(kinds[name].flatten(), minlength=size)
            weights = kinds[name].numel() / (size * counts.clamp(min=1).float())
            losses.append(F.cross_entropy(logits[name].flatten(0, 1), kinds[name].flatten(), weights))
            metrics[name] = losses[-1].detach()
        return LossOutput(torch.stack(losses).sum(), metrics)


def train_inverse_model(
    pool: Pool,
    history: int,
    size: tuple[int, int],
    train_steps: int,
    seed: int,
    report: Callable[[float], object] = lambda share: None,
) -> InverseModel:
    """Train one on clips of levels that are not scored.

    Args:
        pool: The clips.
        history: Frames up to t that it sees.
        size: Height and width in pixels.
        train_steps: Batches of 16 clips.
        seed: Of weights and batches.
        report: Hears how much is done, 0 to 1.
    """
    config = replace(
        SMALL_NETWORK_TRAINING,
        train_steps=train_steps,
        batch_size=BATCH_SIZE,
        optimizer=replace(SMALL_NETWORK_TRAINING.optimizer, warmup_steps=WARMUP_STEPS),
        checkpoint_every=train_steps,
        log_every=train_steps,
        seed=seed,
    )
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        model = InverseModel(history, size, pool)
        batches = pool.batches(BATCH_SIZE, seed)

        def draw(first: int, number: int) -> Iterator[Batch]:
            for done, batch in enumerate(batches(first, number)):
                report(done / number)
                yield batch

        Phase(draw, config, Path(folder), progress=False).run(model)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def say_actions(model: InverseModel, videos: Tensor, chunk: int = 32) -> dict[str, Tensor]:
    """(B, T, C, H, W) -> for each of ``GROUPS`` the kind it finds likeliest, (B, T - 1) int64."""
    parts = [{name: logits.argmax(dim=-1) for name, logits in model(part).items()} for part in videos.split(chunk)]
    return {name: torch.cat([part[name] for part in parts]) for name in GROUPS}
