"""Make the detector behind ``player_seen``, which tells whether a frame of CoinRun shows the player in the middle.

    python -m experiments.release.detector --out runs/detector

It trains on pairs of the game's own frames of training levels, with the player and with the player made invisible, both
as they are and as the shipped tokenizer rebuilds them. Other views show another place of the level, or pieces of other
frames pasted behind the player or in its place. It is scored on validation levels, and on frames of long roll-outs that
were labelled by eye.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from einops import rearrange
from PIL import Image
from torch import Tensor

from genie_gym.data.clips import Batch
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float, to_uint8
from genie_gym.data.procgen import FRAME_SIZE, open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.player_detector import VIEW_SIZE, PlayerDetector, load_detector
from genie_gym.models.base import LossOutput
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.nn.weights import save_half
from genie_gym.players.specs import load_player
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.results.files import write_results
from genie_gym.serving import load_world
from genie_gym.training.loop import Phase, Trainee

_ONE = re.escape(struct.pack("<f", 1.0))
_OPACITY = re.compile(_ONE + b".{12}(" + _ONE + b")" + _ONE + b".{4}" + _ONE + _ONE, re.DOTALL)
"""The opacity of an entity in the bytes of a state, found by the fields around it; the player is the first entity."""
_PLAYER_SIZE = 10
"""Side in pixels of the square in the middle of a frame that holds the player."""
_STEPS_APART = 8
"""Game steps between two frames of one game."""
_FIRST = (FRAME_SIZE - VIEW_SIZE) // 2
"""First row and column of the view in the middle of a frame."""
_JITTER, _FAR = 1, 8
"""Shifts in pixels up to which a view still shows the middle, and from which on it shows another place."""
_PIECES = (4, 13)
"""Range of the sides in pixels of pasted pieces."""
_NOISE_SIDE = 6
"""Side in tokens of the square of noise in the middle."""
_LEAST_ERROR = 0.03
"""Mean absolute difference in the middle from which on a rebuilt frame shows more than the frame without the player.

The tokenizer has seen a player in the middle of every frame and paints one into some frames that have none.
"""
_CHUNK = 64
_FOLDER = Path(__file__).parent


class Pairs(NamedTuple):
    """Frames (N, 64, 64, 3) uint8 of each kind; equal indices show the same state."""

    shown: np.ndarray
    """With the player."""
    hidden: np.ndarray
    """With the player made invisible."""
    rebuilt_shown: np.ndarray
    """With the player, as the tokenizer rebuilds them."""
    rebuilt_hidden: np.ndarray
    """Without the player, as the tokenizer rebuilds them; ``hidden`` itself where the tokenizer paints something."""
    noise: np.ndarray
    """Without the player, rebuilt from tokens of which those around the middle are replaced by any of other frames."""


def hide_player(state: bytes) -> bytes:
    """Return a state of CoinRun in which the player is invisible.

    Raises:
        ValueError: If no entity is found in the state.
    """
    found = _OPACITY.search(state)
    if found is None:
        raise ValueError(f"state must hold an opaque player, got {len(state)} bytes without one")
    return state[: found.start(1)] + struct.pack("<f", 0.0) + state[found.end(1) :]


def record_pairs(levels: str, games: int, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames with the player and without it, (N, 64, 64, 3) uint8 each, of both modes and two players.

    Raises:
        ValueError: If two frames of a pair differ by nothing, or not only in the middle.
    """
    shown, hidden = [], []
    for mode, spec in itertools.product(("easy", "hard"), ("sticky", "expert")):
        config = restrict(RecordConfig(mode=mode), levels)  # type: ignore[arg-type]  # a mode
        opened = open_games(config, seed=seed, num_envs=games, paint_velocity=spec == "expert")
        player = load_player(spec, seed)
        for step in range(frames * _STEPS_APART):
            now = opened.observe().frames
            if step % _STEPS_APART == _STEPS_APART - 1:
                shown.append(now.copy())
                states = opened.save()
                opened.restore([hide_player(state) for state in states])
                hidden.append(opened.observe().frames.copy())
                opened.restore(states)
            opened.act(player(now))
        opened.close()
    pairs = np.concatenate(shown), np.concatenate(hidden)
    differs = (pairs[0] != pairs[1]).any(axis=-1)  # (N, 64, 64)
    inside = _middle(differs)
    if differs.sum() != inside.sum():
        raise ValueError("the player must be in the middle of every frame, got one elsewhere")
    is_visible = inside.any(axis=(1, 2))
    return pairs[0][is_visible], pairs[1][is_visible]


@torch.no_grad()
def rebuild_pairs(tokenizer: VideoTokenizer, shown: np.ndarray, hidden: np.ndarray, seed: int) -> Pairs:
    """Add the frames that the tokenizer rebuilds."""
    generator, rebuilt = torch.Generator().manual_seed(seed), []
    for first in range(0, len(shown), _CHUNK):
        videos = [to_float(frames[first : first + _CHUNK])[:, None] for frames in (shown, hidden)]
        tokens = [tokenizer.encode(each) for each in videos]
        tokens.append(add_noise_tokens(tokens[1], generator))
        rebuilt.append([to_uint8(tokenizer.decode(each)[:, 0]) for each in tokens])
    rebuilt_shown, rebuilt_hidden, noise = (np.concatenate(kind) for kind in zip(*rebuilt, strict=True))
    error = np.abs(_middle(rebuilt_hidden) / 255 - _middle(hidden) / 255).mean(axis=(1, 2, 3))
    is_painted = error[:, None, None, None] >= _LEAST_ERROR
    return Pairs(shown, hidden, rebuilt_shown, np.where(is_painted, hidden, rebuilt_hidden), noise)


def add_noise_tokens(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the tokens around the middle of (B, 1, N), frames without a player, by any tokens of all frames."""
    side = round(tokens.shape[-1] ** 0.5)
    span = torch.arange((side - _NOISE_SIDE) // 2, (side + _NOISE_SIDE) // 2)
    noisy, around = tokens.clone(), (span[:, None] * side + span).flatten()
    chosen = torch.randint(tokens.numel(), (len(tokens), len(around)), generator=generator)
    noisy[:, 0, around] = tokens.flatten()[chosen]
    return noisy


def _middle(frames: np.ndarray) -> np.ndarray:
    first = (FRAME_SIZE - _PLAYER_SIZE) // 2
    return frames[:, first:-first, first:-first]


class Views:
    """Draws views of pairs: odd rows of a batch show the player, the others do not."""

    def __init__(self, pairs: Pairs, batch_size: int, seed: int) -> None:
        self._pairs, self._batch_size, self._seed = pairs, batch_size, seed

    def batches(self, first: int, number: int) -> Iterator[Batch]:
        """Yield batches ``first``, ``first + 1``, ... of (B, 1, 3, ``VIEW_SIZE``, ``VIEW_SIZE``) views."""
        for step in range(first, first + number):
            rng = np.random.default_rng([self._seed, step])
            views = np.stack([self._draw(row % 2 == 1, rng) for row in range(self._batch_size)])
            yield Batch(_disturb(to_float(views), rng)[:, None], torch.arange(self._batch_size))

    def _draw(self, has_player: bool, rng: np.random.Generator) -> np.ndarray:
        pairs, number, kind = self._pairs, rng.integers(len(self._pairs.shown)), rng.random()
        top, left = _FIRST + rng.integers(-_JITTER, _JITTER + 1, size=2)
        if kind < 0.3:
            frame = (pairs.shown if has_player else pairs.hidden)[number]
        elif kind < 0.6:
            frame = (pairs.rebuilt_shown if has_player else pairs.rebuilt_hidden)[number]
        elif kind < 0.7 or has_player:  # a piece of another frame, behind the player or alone
            frame = self._paste(pairs.hidden[number].copy(), rng)
            if has_player:
                is_player = (pairs.shown[number] != pairs.hidden[number]).any(axis=-1)
                frame[is_player] = pairs.shown[number][is_player]
        elif kind < 0.85:
            frame = pairs.noise[number]
        else:  # another place
            frame, corners = pairs.shown[number], np.arange(FRAME_SIZE - VIEW_SIZE + 1)
            top, left = rng.choice(corners[np.abs(corners - _FIRST) >= _FAR], size=2)
        return frame[top : top + VIEW_SIZE, left : left + VIEW_SIZE]

    def _paste(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Paste a piece of another frame without the player near the middle of a frame."""
        side, other = int(rng.integers(*_PIECES)), rng.integers(len(self._pairs.hidden))
        row, column = rng.integers(24, 40 - side // 2, size=2)
        y, x = rng.integers(FRAME_SIZE - side, size=2)
        frame[row : row + side, column : column + side] = self._pairs.hidden[other, y : y + side, x : x + side]
        return frame


def _disturb(views: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur a third of the views, add noise to all, and change their brightness and contrast a little."""
    rows = torch.from_numpy(rng.random((len(views), 4), dtype=np.float32))[:, :, None, None, None]
    blurred = F.avg_pool2d(F.pad(views, (1, 1, 1, 1), mode="replicate"), 3, 1)
    views = torch.where(rows[:, 0] < 0.3, views + rows[:, 0] / 0.3 * (blurred - views), views)
    noise = torch.from_numpy(rng.standard_normal(views.shape, dtype=np.float32))
    views = (0.9 + 0.2 * rows[:, 1]) * (views - 0.5) + 0.45 + 0.1 * rows[:, 2] + 0.03 * rows[:, 3] * noise
    return views.clamp(0, 1)


class Learner(Trainee):
    """The detector with its loss; odd rows of a batch show the player."""

    def __init__(self, detector: PlayerDetector) -> None:
        super().__init__()
        self.detector = detector

    def loss(self, batch: Batch) -> LossOutput:
        """Return the binary cross-entropy, and the share of views told rightly."""
        logits, labels = self.detector(batch.videos[:, 0]), batch.numbers % 2
        accuracy = ((logits > 0) == (labels == 1)).float().mean()
        return LossOutput(F.binary_cross_entropy_with_logits(logits, labels.float()), {"accuracy": accuracy})


@dataclass(frozen=True, kw_only=True)
class DetectorRelease:
    """Record pairs, train, score and save the detector."""

    out: Path = Path("runs/detector")
    """folder of the training run and of player_detector.safetensors"""
    games: int = 128
    """number of games of each mode and player"""
    frames: int = 16
    """number of frames of each game"""
    train_steps: int = 1400
    """number of training batches"""
    batch_size: int = 128
    """number of views a batch"""
    seed: int = 0
    """seed of games, weights and batches"""
    weights: Path | None = None
    """weights of a detector to score; by default one is trained"""
    json: Path | None = None
    """JSON file of results to write"""

    def run(self) -> None:
        """Train to the last step, unless there are weights to score, and score."""
        tokenizer = load_world("coinrun", precision="float32").tokenizer
        weights = self._train(tokenizer) if self.weights is None else self.weights
        shown, hidden = record_pairs("validation", self.games // 2, self.frames // 2, self.seed + 1)
        scores = score_detector(load_detector(weights), rebuild_pairs(tokenizer, shown, hidden, self.seed + 1))
        print(scores)
        if self.json is not None:
            write_results(self.json, {"seed": self.seed, "train_steps": self.train_steps, **scores})

    def _train(self, tokenizer: VideoTokenizer) -> Path:
        shown, hidden = record_pairs("training", self.games, self.frames, self.seed)
        views = Views(rebuild_pairs(tokenizer, shown, hidden, self.seed), self.batch_size, self.seed)
        config = replace(
            SMALL_NETWORK_TRAINING, train_steps=self.train_steps, batch_size=self.batch_size, seed=self.seed
        )
        torch.manual_seed(self.seed)
        detector, path = PlayerDetector(), self.out / "player_detector.safetensors"
        Phase(views.batches, config, self.out).run(Learner(detector))
        save_half(detector, path)
        return path


def read_labelled(shows_player: bool) -> np.ndarray:
    """Return frames (N, 64, 64, 3) uint8 of long roll-outs in which, by eye, a player is seen or none is."""
    sheet = np.asarray(Image.open(_FOLDER / f"frames_{'with' if shows_player else 'without'}_player.png"))
    tiles = rearrange(sheet, "(r h) (c w) x -> (r c) h w x", h=FRAME_SIZE, w=FRAME_SIZE)
    return tiles[tiles.any(axis=(1, 2, 3))]  # the last row of a sheet is filled up with black tiles


def score_detector(detector: PlayerDetector, pairs: Pairs) -> dict[str, float]:
    """Return the number of ``pairs``, and by kind of frame the share in which the detector sees the player."""
    kinds = pairs._asdict() | {"world_with": read_labelled(True), "world_without": read_labelled(False)}
    seen = {name: float(detector.sees_player(to_float(frames)).double().mean()) for name, frames in kinds.items()}
    return {"pairs": len(pairs.shown), **seen}


if __name__ == "__main__":
    tyro.cli(DetectorRelease).run()
