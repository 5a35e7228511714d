"""The first phase: the video tokenizer (Genie, sec. 2.1)."""

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.training.checkpoint import NAME
from genie_gym.training.loop import BareTrainee, Batches, step_seed, train

START_BATCHES = 4
"""Batches over which components and codes are started."""


class TokenizerTrainee(BareTrainee):
    """The tokenizer as the loop wants it."""

    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def loss(self, batch: Batch) -> LossOutput:
        """The tokenizer's loss."""
        return self.tokenizer.loss(batch.videos)

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """A row of real frames over a row of rebuilt ones."""
        real = batch.videos[:1]
        rebuilt = self.tokenizer.decode(self.tokenizer.encode(real))
        return {"rebuilt": rearrange(torch.cat([real, rebuilt]), "b t c h w -> c (b h) (t w)")}


def train_tokenizer(
    tokenizer: VideoTokenizer,
    batches: Batches,
    config: TrainConfig,
    out: Path,
    minutes: float | None = None,
    progress: bool = True,
) -> int:
    """Start the tokenizer from data, unless ``out`` holds a run, and train it. See ``training.loop.train``."""
    tokenizer.set_precision(config.precision)
    if config.compile:
        tokenizer.encoder.compile(dynamic=False)
        tokenizer.decoder.compile(dynamic=False)
    if not (out / NAME).exists():
        torch.manual_seed(step_seed(config.seed, -1))
        tokenizer.initialise(torch.cat([batch.videos for batch in batches(0, START_BATCHES)]))
    return train(TokenizerTrainee(tokenizer), batches, config, out, minutes, progress)
