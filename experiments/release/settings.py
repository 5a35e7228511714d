"""Options of ``experiments.release.make``, and the players whose recordings its worlds learn from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from genie_gym.checks import require
from genie_gym.configs import Mode, Preset, TrainConfig
from genie_gym.data.config import RecordConfig
from genie_gym.data.record import record
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.held_out import restrict
from genie_gym.players.specs import PlayerShare, parse_shares
from genie_gym.presets import PRESETS

_RANDOM_PLAY = ("sticky=0.5", "random=0.1")  # with their shares of the games
_PLAYER_WEIGHT = 0.4  # share of a trained player


@dataclass(frozen=True, kw_only=True)
class FurtherTraining:
    """Settings for training a finished world's dynamics further by steps, on clips as long as its preset's."""

    train_steps: int = 4300
    """number of training steps"""
    batch_size: int = 16
    """number of clips a batch"""
    learning_rate: float = 1e-3
    """peak learning rate"""
    own_context: float = 0.25
    """share of the videos that show the dynamics' own predictions as context"""
    kept_share: float = 0.5
    """weight of the starting weights in the mean that is saved; 0 saves the trained weights"""

    def __post_init__(self) -> None:
        require(0 <= self.kept_share < 1, "FurtherTraining.kept_share", self.kept_share, "in [0, 1)")

    def change(self, training: TrainConfig) -> TrainConfig:
        """Return a preset's training of the dynamics with these values."""
        optimizer = replace(training.optimizer, learning_rate=self.learning_rate, warmup_steps=50)
        return replace(training, optimizer=optimizer, train_steps=self.train_steps, batch_size=self.batch_size)


@dataclass(frozen=True, kw_only=True)
class ReleaseSettings:
    """Settings of a release run; the preset gives model sizes, optimisers and, without ``seconds``, training steps."""

    out: Path = Path("runs/release")
    """folder of recordings, training runs, scores and the finished checkpoint"""
    preset: str = "coinrun"
    """name of the preset to train"""
    seconds: float | None = None
    """wall-clock seconds for recording and training, which determine the step counts; None for the preset's steps"""
    minutes: float | None = None
    """minutes after which this call stops, and a second one resumes; only without ``seconds``"""
    modes: tuple[Mode, ...] = ("easy", "hard")
    """Procgen distribution modes, recorded in equal parts"""
    player: str = "expert"
    """spec of the player of two fifths of the games, as for ``genie-gym record``; empty for random play alone"""
    frames: int | None = None
    """number of frames of training levels, all modes together; None for 400,000, or at most 2,000,000 by the clock"""
    seed: int = 1
    """seed of the recordings"""
    start: str | None = None
    """finished checkpoint whose dynamics alone is trained further; None trains a new world"""
    further: FurtherTraining = field(default_factory=FurtherTraining)
    """by steps, with ``start``: training of its dynamics"""
    device: str = "cpu"
    """device to train and score on"""
    baseline: str | None = "coinrun"
    """by the clock: checkpoint whose latent action model is kept if its labels predict true actions better"""
    first_phases: float = 0.17
    """by the clock: share of the seconds for recording, the tokenizer and the latent action model"""
    batch_sizes: tuple[int, int, int] = (512, 32, 128)
    """by the clock: frames a batch of the tokenizer, clips a batch of the latent action model and of the dynamics"""
    learning_rate: float = 2e-3
    """by the clock: peak learning rate of the dynamics"""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """by the clock: precision of the features of tokenizer and dynamics"""
    compile: bool = True
    """by the clock: whether ``torch.compile`` is used"""
    save_minutes: float = 3.0
    """by the clock: minutes between two saved checkpoints of the dynamics"""
    shard_frames: int = 16_384
    """by the clock: number of frames a shard; each core records one before training begins"""
    evaluation: tyro.conf.Suppress[EvaluateConfig] = field(default_factory=lambda: EvaluateConfig(levels="validation"))
    """options for scoring the finished world"""

    def find_preset(self) -> Preset:
        """Return the preset; if a world is trained further by steps, with the training of the dynamics in ``further``.

        Raises:
            ValueError: If there is none of that name, or ``seconds`` is given with ``minutes`` or an unfit preset.
        """
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {self.preset!r}")
        if self.seconds is not None and self.minutes is not None:
            raise ValueError("minutes must be left out with seconds, which end a run by the clock")
        if self.seconds is not None and PRESETS[self.preset].action_training is None:
            raise ValueError(f"preset must train latent actions alone to run by the clock, got {self.preset!r}")
        preset = PRESETS[self.preset]
        if self.start is None or self.seconds is not None:
            return preset
        return replace(preset, world_training=self.further.change(preset.world_training))

    def record(self, frames: int) -> tuple[Path, ...]:
        """Record the missing shards of ``frames`` frames of training levels, and return the folder of each mode."""
        config = RecordConfig(frames=frames // len(self.modes), frames_per_shard=50_000, seed=self.seed)
        return tuple(record_modes(self.out, "training", self.modes, config, self.player).values())


def choose_players(player: str = "expert") -> list[PlayerShare]:
    """Return the random players, and the ``player`` of two fifths of the games unless its spec is empty."""
    return parse_shares((*_RANDOM_PLAY, *((f"{player}={_PLAYER_WEIGHT}",) if player else ())))


def record_modes(
    out: Path, levels: str, modes: Sequence[Mode], config: RecordConfig, player: str = "expert"
) -> dict[Mode, Path]:
    """Record ``training``, ``validation`` or ``test`` levels with all cores, and return each mode's folder in ``out``.

    Shards that exist are kept. ``config`` is the recording of one mode; ``out`` gets a folder for each.
    """
    folders: dict[Mode, Path] = {mode: out / f"{levels}-{mode}" for mode in modes}
    for mode, folder in folders.items():
        games = restrict(replace(config, mode=mode), levels)
        record(games, choose_players(player), folder, workers=os.cpu_count() or 1)
    return folders
