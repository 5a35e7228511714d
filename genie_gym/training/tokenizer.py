"""The first phase of training: the video tokenizer (Genie, sec. 2.1)."""

import torch
from einops import rearrange
from torch import Tensor

from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.training.loop import Phase, Trainee

_INITIAL_BATCHES = 4
"""Number of batches from which the tokenizer is initialised."""


class TokenizerTrainee(Trainee):
    """Adapts the tokenizer to the training loop."""

    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.frame_tokens = tokenizer.config.tokens_per_frame

    def loss(self, batch: Batch) -> LossOutput:
        """Return the tokenizer's loss."""
        return self.tokenizer.loss(batch.videos)

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return a row of real frames above a row of reconstructed ones, as ``rebuilt``."""
        real = batch.videos[:1]
        rebuilt = self.tokenizer.decode(self.tokenizer.encode(real))
        return {"rebuilt": rearrange(torch.cat([real, rebuilt]), "b t c h w -> c (b h) (t w)")}


def train_tokenizer(tokenizer: VideoTokenizer, phase: Phase) -> int:
    """Train the tokenizer, and return the number of steps done; a new run is initialised from data first."""
    trainee = TokenizerTrainee(tokenizer)
    phase = phase.settle(trainee)
    if not phase.has_started:
        phase.seed_start()
        tokenizer.initialise(torch.cat([batch.videos for batch in phase.batches(0, _INITIAL_BATCHES)]))
    return phase.run(trainee)
