"""Train reward models: networks over transitions that reward agents in a world (``genie_gym.envs.learned_rewards``).

    python -m agents.reward_models reward --labelled recordings/labelled \
        --held-out recordings/validation --out runs/reward
    python -m agents.reward_models demonstration --videos recordings/expert \
        --others recordings/random --out runs/agreement

``reward`` learns from a few labelled transitions which ones win and which ones end an episode; ``demonstration`` learns
from videos alone to distinguish demonstrations from other play.
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
from genie_gym.training.loop import Phase, Trainee, step_seed

_ENDS_SHARE = 0.25
"""Share of labelled transitions that end an episode: ends are visible in videos, and worth more labels."""
_STRETCH, _HELD_OUT = 128, 8
"""Length of stretches in frames; one in so many stretches is held out for ``demonstration``'s accuracy."""
_CHUNK = 256


class RewardModelTrainee(Trainee):
    """A reward model for the training loop; batches hold the indices of their transitions."""

    def __init__(self, model: RewardModel, targets: Tensor) -> None:
        super().__init__()
        self.model = model
        self._targets = targets

    def loss(self, batch: Batch) -> LossOutput:
        """Binary cross-entropy, averaged over outputs."""
        targets, logits = self._targets[batch.numbers], self.model(batch.videos)[:, 0]
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
    """Train a reward model on batches drawn in equal parts from groups of transitions; a second call resumes.

    Args:
        outputs: Names of the model's outputs.
        windows: Windows of two frames.
        targets: (F, outputs) bool for the transition into each frame; read in the groups only.
        groups: Indices of frames, one array for each group.
        config: Config of the training.
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
    model = RewardModel(outputs, *windows.frames.shape[1:3])
    Phase(batches, config, out).run(RewardModelTrainee(model, torch.from_numpy(targets).float()))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def score_transitions(model: RewardModel, windows: VideoWindows, numbers: np.ndarray) -> np.ndarray:
    """Compute logits (M, outputs) of the transitions into frames ``numbers`` (M,)."""
    parts = np.array_split(numbers, -(-len(numbers) // _CHUNK))
    return torch.cat([model(windows.videos_at(part))[:, 0] for part in parts]).numpy()


def score_outputs(predicted: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
    """Return precision and recall of (M,) bool predictions, None if nothing was predicted or nothing is positive."""
    hits = int((predicted & actual).sum())
    return {
        "precision": hits / int(predicted.sum()) if predicted.any() else None,
        "recall": hits / int(actual.sum()) if actual.any() else None,
        "claimed": int(predicted.sum()),
        "so": int(actual.sum()),
    }


def plan_training(train_steps: int, seed: int) -> TrainConfig:
    """Return the training config of reward models."""
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
class TransitionTraining:
    """The options and results that both trainings share."""

    out: Path
    """folder of the run and its ``reward_model``"""
    train_steps: int = 400
    """number of training batches"""
    seed: int = 0
    """seed of the labels, initial weights and batches"""

    @property
    def folder(self) -> Path:
        """Folder of the trained model."""
        return self.out / "reward_model"

    def finish(self, model: RewardModel, scores: dict[str, Any]) -> RewardModel:
        """Save the model, write and print its scores, and return it."""
        save_reward_model(model, self.folder)
        (self.out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
        print(json.dumps(scores))
        return model


@dataclass(frozen=True, kw_only=True)
class RewardModelTraining(TransitionTraining):
    """Learn from labelled transitions which ones win an episode, and which ones end it."""

    labelled: Path
    """folder of recordings with rewards, on training levels"""
    held_out: Path
    """folder of recordings of other levels, for precision and recall"""
    out: Path = Path("runs/reward-model")
    """folder of the run and its ``reward_model``"""
    labels: int = 800
    """number of transitions whose outcome is read"""

    def run(self) -> RewardModel:
        """Train and save the model, and print its held-out precision and recall.

        Raises:
            ValueError: If the recordings hold too few transitions, or no win.
        """
        windows = VideoWindows(read_footage(ClipDataset(self.labelled, clip_length=2)), 2)
        rewarded, ended = read_outcomes(self.labelled)
        ends, others = self._draw(ended)
        targets = np.stack([rewarded, ended], axis=1)
        if not rewarded[ends].any():
            raise ValueError(f"labelled {str(self.labelled)!r} must hold won episodes, got {len(ends)} lost ones")
        config = plan_training(self.train_steps, self.seed)
        model = train_reward_model(("reward", "end"), windows, targets, [ends, others], config, self.out)
        shift_prior(model, trained=targets[ends].mean(axis=0) / 2, natural=targets[ends].mean(axis=0) * ended.mean())
        scores = {"labels": len(ends) + len(others), "labelled_wins": int(rewarded[ends].sum()), **self._score(model)}
        return self.finish(model, scores)

    def _draw(self, ended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        wanted = round(_ENDS_SHARE * self.labels), self.labels - round(_ENDS_SHARE * self.labels)
        found = np.flatnonzero(ended), np.flatnonzero(~ended)
        if any(len(numbers) < number for numbers, number in zip(found, wanted, strict=True)):
            raise ValueError(
                f"labels must be such that recordings hold {wanted[0]} ends and {wanted[1]} other transitions, got "
                f"{self.labels} with {len(found[0])} and {len(found[1])} recorded"
            )
        ends, others = (rng.permutation(numbers)[:number] for numbers, number in zip(found, wanted, strict=True))
        return ends, others

    def _score(self, model: RewardModel) -> dict[str, Any]:
        windows = VideoWindows(read_footage(ClipDataset(self.held_out, clip_length=2)), 2)
        outcomes = read_outcomes(self.held_out)
        predicted = score_transitions(model, windows, np.arange(len(windows.frames))) > 0
        return {name: score_outputs(predicted[:, index], outcomes[index]) for index, name in enumerate(model.outputs)}


@dataclass(frozen=True, kw_only=True)
class AgreementModelTraining(TransitionTraining):
    """Learn from videos to distinguish demonstrations from other play."""

    videos: Path
    """folder of demonstrations, of which only frames are read"""
    others: Path
    """folder of recordings of other play"""
    out: Path = Path("runs/agreement-model")
    """folder of the run and its ``reward_model``"""

    def run(self) -> RewardModel:
        """Train and save the model, and print its accuracy on held-out stretches."""
        footage = [read_footage(ClipDataset(folder, clip_length=2)) for folder in (self.videos, self.others)]
        windows = VideoWindows(Footage(*(np.concatenate(parts) for parts in zip(*footage, strict=True))), 2)
        is_demonstration = np.arange(len(windows.frames)) < len(footage[0].frames)
        is_kept = np.concatenate([np.arange(len(part.frames)) // _STRETCH % _HELD_OUT == 0 for part in footage])
        groups = [np.flatnonzero(~is_kept & (is_demonstration == which)) for which in (True, False)]
        config = plan_training(self.train_steps, self.seed)
        model = train_reward_model(("demonstration",), windows, is_demonstration[:, None], groups, config, self.out)
        predicted = score_transitions(model, windows, np.flatnonzero(is_kept))[:, 0] > 0
        actual = is_demonstration[is_kept]
        accuracy = [float((predicted == which)[actual == which].mean()) for which in (True, False)]
        scores = {"balanced_accuracy": float(np.mean(accuracy)), "chance": 0.5, "held_out": int(is_kept.sum())}
        return self.finish(model, scores)


def shift_prior(model: RewardModel, trained: np.ndarray, natural: np.ndarray) -> None:
    """Shift the biases of a model trained on classes with shares ``trained`` to their natural shares."""
    shift = np.log(natural / (1 - natural)) - np.log(trained / (1 - trained))
    model.encoder.out.bias.add_(torch.from_numpy(shift).float())


_Command = (
    Annotated[RewardModelTraining, tyro.conf.subcommand("reward")]
    | Annotated[AgreementModelTraining, tyro.conf.subcommand("demonstration")]
)

if __name__ == "__main__":
    tyro.cli(_Command).run()
