"""The upper bound (ceiling) of latent actions: a supervised network that predicts true actions from the same frames."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.data.clips import Batch
from genie_gym.metrics.held_out import ClipPool, read_actions
from genie_gym.metrics.latent_actions import GROUPS, group_actions
from genie_gym.models.base import LossOutput
from genie_gym.nn.convolution import StridedEncoder, stack_transitions
from genie_gym.nn.layers import Linear
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.training.loop import Phase, Trainee

_WIDTH, _FEATURES = 32, 128
_BATCH_SIZE, _WARMUP_STEPS = 16, 20


class InverseModel(Trainee):
    """Predict the kind of action between two frames, for each grouping in ``GROUPS``, from these and earlier frames.

    Args:
        history: Number of frames up to t in its input, to which frame t + 1 and the change to it are added.
        size: Height and width of frames in pixels.
        pool: Clips with the real actions to train on.
    """

    def __init__(self, history: int, size: tuple[int, int], pool: ClipPool) -> None:
        super().__init__()
        self.history, self._pool = history, pool
        self.encoder = StridedEncoder(3 * (history + 2), _WIDTH, _FEATURES, size)
        self.heads = nn.ModuleDict({name: Linear(_FEATURES, kinds) for name, kinds in GROUPS.items()})

    def forward(self, videos: Tensor) -> dict[str, Tensor]:
        """Return (B, T - 1, kinds) logits for each of ``GROUPS`` from (B, T, C, H, W) videos."""
        return self._predict(stack_transitions(videos, self.history))

    def _predict(self, pixels: Tensor) -> dict[str, Tensor]:
        # (B, M, (history + 2) C, H, W) -> (B M, (history + 2) C, H, W) -> (B M, _FEATURES) -> (B, M, kinds)
        flat = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = F.relu(self.encoder(flat))
        return {name: head(features).unflatten(0, pixels.shape[:2]) for name, head in self.heads.items()}

    def loss(self, batch: Batch) -> LossOutput:
        """Return the cross-entropy with every kind of action weighted equally, as in balanced accuracy.

        Neighbouring transitions are nearly redundant, so every second one is used.
        """
        every_second = slice(int(torch.randint(2, ())), None, 2)
        kinds = group_actions(read_actions(self._pool.dataset, batch.numbers.numpy())[:, every_second])
        logits = self._predict(stack_transitions(batch.videos, self.history)[:, every_second])
        losses, metrics = [], {}
        for name, size in GROUPS.items():
            counts = torch.bincount(kinds[name].flatten(), minlength=size)
            weights = kinds[name].numel() / (size * counts.clamp(min=1).float())
            losses.append(F.cross_entropy(logits[name].flatten(0, 1), kinds[name].flatten(), weights))
            metrics[name] = losses[-1].detach()
        return LossOutput(torch.stack(losses).sum(), metrics)


def train_inverse_model(
    pool: ClipPool,
    history: int,
    size: tuple[int, int],
    train_steps: int,
    seed: int,
    report: Callable[[float], object] = lambda share: None,
) -> InverseModel:
    """Train an ``InverseModel`` and return it in eval mode.

    Args:
        pool: Clips to train on, of levels that are not scored.
        history: Number of frames up to t in its input.
        size: Height and width of frames in pixels.
        train_steps: Number of batches of 16 clips.
        seed: Seed of weights and batches.
        report: Called with the share done, 0 to 1.
    """
    config = replace(
        SMALL_NETWORK_TRAINING,
        train_steps=train_steps,
        batch_size=_BATCH_SIZE,
        optimizer=replace(SMALL_NETWORK_TRAINING.optimizer, warmup_steps=_WARMUP_STEPS),
        checkpoint_every=train_steps,
        log_every=train_steps,
        seed=seed,
    )
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        model = InverseModel(history, size, pool)
        batches = pool.batches(_BATCH_SIZE, seed)

        def draw(first: int, number: int) -> Iterator[Batch]:
            for done, batch in enumerate(batches(first, number)):
                report(done / number)
                yield batch

        Phase(draw, config, Path(folder), progress=False).run(model)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def predict_actions(model: InverseModel, videos: Tensor, chunk: int = 32) -> dict[str, Tensor]:
    """Return the most likely kind of action for each of ``GROUPS``: (B, T, C, H, W) videos -> (B, T - 1) int64 each."""
    parts = [{name: logits.argmax(dim=-1) for name, logits in model(part).items()} for part in videos.split(chunk)]
    return {name: torch.cat([part[name] for part in parts]) for name in GROUPS}
