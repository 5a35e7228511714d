"""Train reward models: networks over transitions that reward agents in a world (``genie_gym.envs.learned_rewards``).

    python -m agents.reward_models reward --labelled recordings/labelled \
        --held-out recordings/validation --out runs/reward
    python -m agents.reward_models demonstration --videos recordings/expert \
        --others recordings/random --out runs/agreement

``reward`` learns from a few labelled transitions which ones win and which ones end an episode; ``demonstration`` learns
from videos alone to distinguish demonstrations from other play.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from agents.config import decay_to_hundredth
from agents.windows import Footage, VideoWindows, read_footage, read_outcomes
from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.failures import run_command
from genie_gym.models.base import LossOutput
from genie_gym.models.reward_model import RewardModel, save_reward_model
from genie_gym.system import replace_file
from genie_gym.training.loop import Phase, Trainee
from genie_gym.training.step import step_seed

_ENDS_SHARE = 0.25
"""Share of the labels spent on transitions that end an episode: only these can win, and videos show where they are."""
_STRETCH, _HELD_OUT = 128, 8
"""Frames are divided into stretches of 128; one stretch in 8 is held out to measure ``demonstration``'s accuracy."""
_CHUNK = 256  # transitions scored at once


class RewardModelTrainee(Trainee):
    """A reward model as the training loop trains it; ``targets`` (F, outputs) are indexed by a batch's ``numbers``."""

    def __init__(self, model: RewardModel, targets: Tensor) -> None:
        super().__init__()
        self.model = model
        self._targets = targets

    def loss(self, batch: Batch) -> LossOutput:
        """Return the binary cross-entropy averaged over outputs, and the share of correct predictions."""
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
    """Train a reward model with the named outputs on windows of two frames; a second call resumes the run in ``out``.

    A transition has the index of its second frame. Each of the ``groups``, arrays of such indices, gives an equal part
    of every batch. ``targets`` (F, outputs) bool belong to the transition into each frame; only the groups' are used.

    Raises:
        ValueError: If a group is empty.
    """
    if not all(len(group) for group in groups):
        raise ValueError(f"groups must have a transition each, got {[len(group) for group in groups]}")
    by_seed = {step_seed(config.seed, index): group for index, group in enumerate(groups)}
    phase = Phase(functools.partial(windows.batches, by_seed, config.batch_size // len(groups)), config, out)
    phase.seed_start()
    model = RewardModel(outputs, *windows.frames.shape[1:3])
    phase.run(RewardModelTrainee(model, torch.from_numpy(targets).float()))
    model.set_precision("float32")
    return model.eval().requires_grad_(False)


@torch.no_grad()
def score_transitions(model: RewardModel, windows: VideoWindows, numbers: np.ndarray) -> np.ndarray:
    """Compute logits (M, outputs) of the transitions into frames ``numbers`` (M,)."""
    parts = np.array_split(numbers, -(-len(numbers) // _CHUNK))
    return torch.cat([model(windows.videos_at(part))[:, 0] for part in parts]).numpy()


def score_outputs(predicted: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
    """Return precision, recall (None if undefined), predicted positives (``claimed``) and actual ones (``so``)."""
    hits, claimed, positive = (int(each.sum()) for each in (predicted & actual, predicted, actual))
    precision, recall = hits / claimed if claimed else None, hits / positive if positive else None
    return {"precision": precision, "recall": recall, "claimed": claimed, "so": positive}


def plan_training(train_steps: int, seed: int) -> TrainConfig:
    """Return the config by which reward models are trained for ``train_steps`` steps."""
    warmup = min(20, train_steps // 10)
    optimizer = decay_to_hundredth(1e-3, warmup_steps=warmup, weight_decay=1e-2, betas=(0.9, 0.99))
    training = TrainConfig(train_steps=train_steps, batch_size=64, clip_length=2, optimizer=optimizer, seed=seed)
    return replace(training, precision="float32", picture_every=0)


@dataclass(frozen=True, kw_only=True)
class TransitionTraining:
    """The options and the saving of results that both trainings share."""

    out: Path
    """folder of the run and its ``reward_model``"""
    train_steps: int = 400
    """number of training batches"""
    seed: int = 0
    """seed of the labels, initial weights and batches"""

    @property
    def folder(self) -> Path:
        """Folder of the trained reward model."""
        return self.out / "reward_model"

    def finish(self, model: RewardModel, scores: dict[str, Any]) -> RewardModel:
        """Save the model, write its scores to ``scores.json``, print them, and return the model."""
        save_reward_model(model, self.folder)
        with replace_file(self.out / "scores.json") as temporary:
            temporary.write_text(json.dumps(scores, indent=1) + "\n")
        print(json.dumps(scores))
        return model


@dataclass(frozen=True, kw_only=True)
class RewardModelTraining(TransitionTraining):
    """Train a reward model to recognise transitions that win an episode, and those that end it."""

    labelled: Path
    """folder of recordings of training levels, with rewards"""
    held_out: Path
    """folder of recordings of other levels, on which precision and recall are measured"""
    out: Path = Path("runs/reward-model")
    """folder of the run and its ``reward_model``"""
    labels: int = 800
    """number of labelled transitions to learn from"""

    def run(self) -> RewardModel:
        """Train and save the model, and print its held-out precision and recall.

        Raises:
            ValueError: If the recordings hold too few transitions of a kind, or the chosen ones no win.
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
        """Return the indices of the labelled transitions: those that end an episode, and others."""
        rng, num_ends = np.random.default_rng(self.seed), round(_ENDS_SHARE * self.labels)
        num_others, ends, others = self.labels - num_ends, np.flatnonzero(ended), np.flatnonzero(~ended)
        if len(ends) < num_ends or len(others) < num_others:
            raise ValueError(
                f"labels must be such that recordings hold {num_ends} ends and {num_others} other transitions, got "
                f"{self.labels} with {len(ends)} and {len(others)} recorded"
            )
        return rng.permutation(ends)[:num_ends], rng.permutation(others)[:num_others]

    def _score(self, model: RewardModel) -> dict[str, Any]:
        windows = VideoWindows(read_footage(ClipDataset(self.held_out, clip_length=2)), 2)
        outcomes = read_outcomes(self.held_out)
        predicted = score_transitions(model, windows, np.arange(len(windows.frames))) > 0
        return {name: score_outputs(predicted[:, index], outcomes[index]) for index, name in enumerate(model.outputs)}


@dataclass(frozen=True, kw_only=True)
class AgreementModelTraining(TransitionTraining):
    """Train a reward model to distinguish demonstrations from other play, from videos alone."""

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
        is_held_out = np.concatenate([np.arange(len(part.frames)) // _STRETCH % _HELD_OUT == 0 for part in footage])
        groups = [np.flatnonzero(~is_held_out & (is_demonstration == kind)) for kind in (True, False)]
        config = plan_training(self.train_steps, self.seed)
        model = train_reward_model(("demonstration",), windows, is_demonstration[:, None], groups, config, self.out)
        predicted = score_transitions(model, windows, np.flatnonzero(is_held_out))[:, 0] > 0
        actual = is_demonstration[is_held_out]
        accuracy = [float((predicted == kind)[actual == kind].mean()) for kind in (True, False)]
        scores = {"balanced_accuracy": float(np.mean(accuracy)), "chance": 0.5, "held_out": int(is_held_out.sum())}
        return self.finish(model, scores)


def shift_prior(model: RewardModel, trained: np.ndarray, natural: np.ndarray) -> None:
    """Correct a model's biases for training shares (outputs,) of positives that differ from their natural shares."""
    shift = np.log(natural / (1 - natural)) - np.log(trained / (1 - trained))
    model.encoder.out.bias.add_(torch.from_numpy(shift).float())


_Command = (
    Annotated[RewardModelTraining, tyro.conf.subcommand("reward")]
    | Annotated[AgreementModelTraining, tyro.conf.subcommand("demonstration")]
)

if __name__ == "__main__":
    run_command(_Command)
