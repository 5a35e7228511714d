"""Judges of transitions: what rewards in a world that has none are made of (``genie_gym.envs.learned_rewards``).

    python -m agents.reward_models reward --labelled recordings/labelled \
        --held-out recordings/validation --out runs/reward
    python -m agents.reward_models demonstration --videos recordings/expert \
        --others recordings/random --out runs/agreement

``reward`` learns from a few labelled transitions which ones win and which ones end a game; ``demonstration`` learns
from videos alone to tell demonstrations from other play.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from agents.windows import Footage, VideoWindows, read_footage, read_outcomes
from genie_gym.configs import OptimizerConfig, TrainConfig
from genie_gym.data.clips import Batch, ClipDataset, draw_numbers
from genie_gym.models.base import LossOutput
from genie_gym.models.reward_model import RewardModel, save_reward_model
from genie_gym.training.loop import BareTrainee, Phase, step_seed

ENDS_SHARE = 0.25
"""Of the labelled transitions; where games end is seen in a video, and worth more labels."""
HELD_OUT = 8
"""One in so many stretches of footage is kept for ``demonstration``'s accuracy."""
STRETCH = 128
"""Frames."""
CHUNK = 256


class Judging(BareTrainee):
    """A judge as the loop wants it; batches tell which transitions they hold."""

    def __init__(self, judge: RewardModel, targets: Tensor) -> None:
        super().__init__()
        self.judge = judge
        self._targets = targets

    def loss(self, batch: Batch) -> LossOutput:
        """Binary cross-entropy, a mean over outputs."""
        targets, logits = self._targets[batch.numbers], self.judge(batch.videos)[:, 0]
        agreement = ((logits > 0) == targets.bool()).float().mean()
        return LossOutput(F.binary_cross_entropy_with_logits(logits, targets), {"agreement": agreement})


def train_reward_model(
    outputs: Sequence[str],
    windows: VideoWindows,
    targets: np.ndarray,
    groups: Sequence[np.ndarray],
    config: TrainConfig,
    out: Path,
) -> RewardModel:
    """Train a judge on batches drawn from several groups in equal parts; called again, go on.

    Args:
        outputs: Of the judge.
        windows: Of two frames.
        targets: (F, outputs) bool, of the transition into each frame; looked at in the groups alone.
        groups: Numbers of frames.
        config: Of the training.
        out: Folder of the run.

    Raises:
        ValueError: If a group is empty.
    """
    if not all(len(group) for group in groups):
        raise ValueError(f"groups must have a transition each, got {[len(group) for group in groups]}")
    each = config.batch_size // len(groups)

    def batches(first: int, number: int) -> Iterator[Batch]:
        for batch in range(first, first + number):
            drawn = [
                draw_numbers(group, each, step_seed(config.seed, index), batch) for index, group in enumerate(groups)
            ]
            numbers = np.concatenate(drawn)
            yield Batch(windows.videos_at(numbers), torch.from_numpy(numbers))

    torch.manual_seed(step_seed(config.seed, -1))
    judge = RewardModel(outputs, *windows.frames.shape[1:3])
    Phase(batches, config, out).run(Judging(judge, torch.from_numpy(targets).float()))
    return judge.eval().requires_grad_(False)


@torch.no_grad()
def judge_frames(judge: RewardModel, windows: VideoWindows, numbers: np.ndarray) -> np.ndarray:
    """(M, outputs) logits of the transitions into those frames."""
    parts = np.array_split(numbers, -(-len(numbers) // CHUNK))
    return torch.cat([judge(windows.videos_at(part))[:, 0] for part in parts]).numpy()


def score_outputs(said: np.ndarray, so: np.ndarray) -> dict[str, Any]:
    """Precision and recall of (M,) bool claims; None where nothing was claimed, or nothing is so."""
    hits = int((said & so).sum())
    return {
        "precision": hits / int(said.sum()) if said.any() else None,
        "recall": hits / int(so.sum()) if so.any() else None,
        "claimed": int(said.sum()),
        "so": int(so.sum()),
    }


def plan_training(train_steps: int, seed: int) -> TrainConfig:
    """How judges are trained."""
    optimizer = OptimizerConfig(
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        schedule="cosine",
        warmup_steps=min(20, train_steps // 10),
        weight_decay=1e-2,
        betas=(0.9, 0.99),
    )
    return TrainConfig(
        train_steps=train_steps,
        batch_size=64,
        clip_length=2,
        optimizer=optimizer,
        precision="float32",
        seed=seed,
        picture_every=0,
    )


@dataclass(frozen=True, kw_only=True)
class RewardModelTraining:
    """Learn from labelled transitions which ones win a game, and which ones end it."""

    labelled: Path
    """Recordings with rewards, of training levels."""
    held_out: Path
    """Recordings of other levels, for precision and recall."""
    out: Path = Path("runs/reward-judge")
    """Folder of run and judge."""
    labels: int = 800
    """Transitions whose outcome is looked at."""
    train_steps: int = 400
    """Batches."""
    seed: int = 0
    """Of labels, weights and batches."""

    def run(self) -> RewardModel:
        """Train, save, print held-out precision and recall.

        Raises:
            ValueError: If the recordings hold too few transitions, or none that wins.
        """
        windows = VideoWindows(read_footage(ClipDataset(self.labelled, clip_length=2)), 2)
        rewarded, ended = read_outcomes(self.labelled)
        ends, others = self._draw(ended)
        targets = np.stack([rewarded, ended], axis=1)
        if not rewarded[ends].any():
            raise ValueError(f"labelled {str(self.labelled)!r} must hold games that are won, got {len(ends)} lost")
        config = plan_training(self.train_steps, self.seed)
        judge = train_reward_model(("reward", "end"), windows, targets, [ends, others], config, self.out)
        shift_prior(judge, trained=targets[ends].mean(axis=0) / 2, natural=targets[ends].mean(axis=0) * ended.mean())
        save_reward_model(judge, self.out / "judge")
        scores = {"labels": len(ends) + len(others), "labelled_wins": int(rewarded[ends].sum()), **self._score(judge)}
        _tell(scores, self.out)
        return judge

    def _draw(self, ended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        wanted = round(ENDS_SHARE * self.labels), self.labels - round(ENDS_SHARE * self.labels)
        found = np.flatnonzero(ended), np.flatnonzero(~ended)
        if any(len(numbers) < number for numbers, number in zip(found, wanted, strict=True)):
            raise ValueError(
                f"labels must be such that {wanted[0]} ends and {wanted[1]} other transitions are found, got "
                f"{self.labels} of {len(found[0])} and {len(found[1])}"
            )
        ends, others = (rng.permutation(numbers)[:number] for numbers, number in zip(found, wanted, strict=True))
        return ends, others

    def _score(self, judge: RewardModel) -> dict[str, Any]:
        windows = VideoWindows(read_footage(ClipDataset(self.held_out, clip_length=2)), 2)
        outcomes = read_outcomes(self.held_out)
        said = judge_frames(judge, windows, np.arange(len(windows.frames))) > 0
        return {name: score_outputs(said[:, index], outcomes[index]) for index, name in enumerate(judge.outputs)}


@dataclass(frozen=True, kw_only=True)
class AgreementModelTraining:
    """Learn from videos to tell demonstrations from other play."""

    videos: Path
    """Folder of demonstrations; nothing but their frames is read."""
    others: Path
    """Folder of other play."""
    out: Path = Path("runs/agreement-judge")
    """Folder of run and judge."""
    train_steps: int = 400
    """Batches."""
    seed: int = 0
    """Of weights and batches."""

    def run(self) -> RewardModel:
        """Train, save, print the accuracy on stretches that were kept apart."""
        footage = [read_footage(ClipDataset(folder, clip_length=2)) for folder in (self.videos, self.others)]
        windows = VideoWindows(Footage(*(np.concatenate(parts) for parts in zip(*footage, strict=True))), 2)
        is_demonstration = np.arange(len(windows.frames)) < len(footage[0].frames)
        is_kept = np.concatenate([np.arange(len(part.frames)) // STRETCH % HELD_OUT == 0 for part in footage])
        groups = [np.flatnonzero(~is_kept & (is_demonstration == which)) for which in (True, False)]
        config = plan_training(self.train_steps, self.seed)
        judge = train_reward_model(("demonstration",), windows, is_demonstration[:, None], groups, config, self.out)
        save_reward_model(judge, self.out / "judge")
        said = judge_frames(judge, windows, np.flatnonzero(is_kept))[:, 0] > 0
        accuracy = [float((said == so)[is_demonstration[is_kept] == so].mean()) for so in (True, False)]
        scores = {"balanced_accuracy": float(np.mean(accuracy)), "chance": 0.5, "held_out": int(is_kept.sum())}
        _tell(scores, self.out)
        return judge


def _tell(scores: dict[str, Any], out: Path) -> None:
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    print(json.dumps(scores))


def shift_prior(judge: RewardModel, trained: np.ndarray, natural: np.ndarray) -> None:
    """Make a judge that saw outputs with shares ``trained`` expect them with shares ``natural``."""
    shift = np.log(natural / (1 - natural)) - np.log(trained / (1 - trained))
    judge.encoder.out.bias.add_(torch.from_numpy(shift).float())


Command = (
    Annotated[RewardModelTraining, tyro.conf.subcommand("reward")]
    | Annotated[AgreementModelTraining, tyro.conf.subcommand("demonstration")]
)

if __name__ == "__main__":
    tyro.cli(Command).run()
