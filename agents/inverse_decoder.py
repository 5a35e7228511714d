"""An inverse model from scratch on a few labelled samples: the baseline of decoders that have seen all videos."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from agents.cloning import shift_windows
from agents.game import Game
from agents.regression import split_folds
from agents.relabelling import Moves
from agents.windows import Footage, VideoWindows
from genie_gym.nn.convolution import StridedEncoder
from genie_gym.nn.layers import Linear, zero_
from genie_gym.serving import native_precision
from genie_gym.system import keep_freed_memory

_FRAMES = 4
"""Frames of a window: t - 2 to t + 1 for the transition from t."""
_WIDTH, _FEATURES, _DROPOUT = 16, 128, 0.5
_BATCH_SIZE, _LEARNING_RATE, _WEIGHT_DECAY, _WARMUP_STEPS = 64, 1e-3, 0.05, 20
_SHIFT, _GAIN = 4, 0.2
"""Augmentation: the largest shift in pixels, and the standard deviation of each colour channel's gain."""
_CHECK_EVERY, _PATIENCE, _AVERAGING = 20, 8, 0.98
"""Steps from one check on held-out samples to the next, checks without gain before a stop, and weight averaging."""
_DECODED_AT_ONCE = 256  # windows in a batch


class DifferenceNetwork(nn.Module):
    """A small convolutional network from the changes between frames to logits of moves."""

    def __init__(self, kinds: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = StridedEncoder(3 * (_FRAMES - 1), _WIDTH, _FEATURES, size)
        self.dropout, self.head = nn.Dropout(_DROPOUT), zero_(Linear(_FEATURES, kinds))

    def forward(self, changes: Tensor) -> Tensor:
        """Return logits (B, kinds) of the last transition of windows, given by their ``find_changes``."""
        return self.head(self.dropout(F.relu(self.encoder(changes))))


class InverseDecoder:
    """An ensemble of small inverse models, one for each fold of the samples.

    Each learns from the other folds, augmented by random shifts and colours, and stops where it predicts its own fold
    best. It never sees other frames than those of the samples.

    Args:
        footage: Frames of the labelled games.
        numbers: (M,) indices of the frames at which the labelled samples' actions were taken.
        real_actions: (M,) real actions of the samples.
        game: Game with R real actions.
        seed: Seed of weights, batches and augmentation.
        most_steps: Largest number of batches for each model.

    Raises:
        ValueError: If there are fewer than two samples, the numbers differ, or an action is out of range.
    """

    def __init__(
        self,
        footage: Footage,
        numbers: np.ndarray,
        real_actions: np.ndarray,
        game: Game,
        seed: int,
        most_steps: int,
    ) -> None:
        keep_freed_memory()
        self._moves, self._size = Moves(real_actions, len(numbers), game), game.frame_size
        self._precision = getattr(torch, native_precision(torch.device("cpu")))
        targets = self._moves.targets
        videos, folds = _read_transitions(VideoWindows(footage, _FRAMES), numbers), split_folds(len(targets))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._networks = [self._fit(videos, targets, folds == fold, most_steps) for fold in folds.unique()]

    @torch.no_grad()
    def decode(self, footage: Footage) -> np.ndarray:
        """Return the distributions (F, R) float16 of a footage's F frames; zeros at the last one of an episode."""
        windows, has_next = VideoWindows(footage, _FRAMES), np.flatnonzero(~np.append(footage.episode_starts[1:], True))
        decoded = np.zeros((len(footage.episode_starts), self._moves.actions), dtype=np.float16)
        for first in tqdm(range(0, len(has_next), _DECODED_AT_ONCE), unit_scale=_DECODED_AT_ONCE, leave=False):
            numbers = has_next[first : first + _DECODED_AT_ONCE]
            changes = find_changes(_read_transitions(windows, numbers).to(self._precision))
            shares = torch.stack([network(changes).float().softmax(dim=1) for network in self._networks]).mean(dim=0)
            decoded[numbers] = self._moves.spread(shares).half().numpy()
        return decoded

    def _fit(self, videos: Tensor, targets: Tensor, is_out: Tensor, most_steps: int) -> nn.Module:
        """Train a network on the samples that are not held out; return its averaged weights that predict these best."""
        network = DifferenceNetwork(len(self._moves.kinds), self._size)
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING))
        optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / _WARMUP_STEPS, total_iters=_WARMUP_STEPS)
        known, best, checks_since = torch.nonzero(~is_out)[:, 0], float("inf"), 0
        found: nn.Module = network
        held_out = find_changes(videos[is_out])
        for step in range(1, most_steps + 1):
            drawn = known[torch.randint(len(known), (_BATCH_SIZE,))]
            seen = _colour_windows(shift_windows(videos[drawn], _SHIFT))
            optimizer.zero_grad()
            F.cross_entropy(network(find_changes(seen)), targets[drawn]).backward()
            optimizer.step()
            warmup.step()
            average.update_parameters(network)
            if step % _CHECK_EVERY and step < most_steps:
                continue
            with torch.no_grad():
                loss = float(F.cross_entropy(average.module.eval()(held_out), targets[is_out]))
            checks_since += 1
            if loss < best:
                best, found, checks_since = loss, copy.deepcopy(average.module), 0
            elif checks_since >= _PATIENCE:
                break
        return found.eval().requires_grad_(False)


def find_changes(videos: Tensor) -> Tensor:
    """Return the changes between the frames of videos (B, T, C, H, W), stacked in channels: (B, (T - 1) C, H, W)."""
    changes = 2 * (videos[:, 1:] - videos[:, :-1]).flatten(1, 2)
    return changes.contiguous(memory_format=torch.channels_last)


def _read_transitions(windows: VideoWindows, numbers: np.ndarray) -> Tensor:
    """Return the windows (M, T, C, H, W) that end one frame after ``numbers`` (M,), on the CPU."""
    return windows.videos_at(numbers + 1).cpu()


def _colour_windows(videos: Tensor) -> Tensor:
    """Multiply each colour channel of each window (B, T, C, H, W) by a random gain, the same for all frames."""
    return videos * (1 + _GAIN * torch.randn(len(videos), 1, videos.shape[2], 1, 1))
