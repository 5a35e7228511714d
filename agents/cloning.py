"""Behavioural cloning from latent actions of videos, or from real actions for the oracle (Genie, appendix E).

python -m agents.cloning --videos runs/demonstrations/videos --checkpoint coinrun --out runs/latent-policy
"""

import copy
import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.config import POLICIES, UNUSED_FIELDS, CloningConfig, PolicyName, Training
from agents.labelling import NO_LABEL, digest_labels, label_dataset
from agents.policy import LatentPolicy, load_policy, save_policy
from agents.windows import Windows, read_footage
from genie_gym.config_io import to_dict
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.failures import run_command
from genie_gym.models.base import LossOutput
from genie_gym.nn.layers import Linear, zero_
from genie_gym.serving import load_world
from genie_gym.system import replace_file
from genie_gym.training.loop import Phase, Trainee

REAL = "real"
"""Value of ``label_source`` for a policy cloned from real actions."""


class Cloning(Trainee):
    """A policy as the training loop trains it; the ``numbers`` of a batch are the last frames of its windows.

    If the windows have distributions q(a | x) over the action of a transition x, decoded from few samples, then to
    imitate them would teach the policy their blur. It learns instead to make the transitions likely:
    log sum_a pi(a | window) p(x | a), where p(x | a) is proportional to q(a | x) / p(a), and p(a) is the mean of q over
    all videos. The gradient is that of the cross-entropy with the posteriors, proportional to pi(a | window) p(x | a).
    Alone they make a new policy collapse into one action and an old one too sure, so that the first batches learn q,
    and later ones a mixture of both; see ``CloningConfig``.

    If the windows have latent actions too, a second linear layer predicts them from the policy's features. They say
    less than real actions, but they come from all videos rather than from few samples, and they sharpen the features.
    A third predicts the actions after the one to take, which sharpens them too.
    Both layers are trained only; they are no part of the policy.
    """

    seen: Tensor

    def __init__(self, policy: LatentPolicy, windows: Windows, config: CloningConfig) -> None:
        super().__init__()
        self.policy = policy
        self._windows, self._config = windows, config
        if windows.num_latents:
            self.latent_head = zero_(Linear(config.policy.features, windows.num_latents))
        if config.actions_ahead:
            self.ahead_head = zero_(Linear(config.policy.features, config.actions_ahead * windows.num_actions))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # batches, in the run's state

    def loss(self, batch: Batch) -> LossOutput:
        """Return the cross-entropy of the actions taken in the windows' last frames, and the share predicted.

        In training, windows are shifted at random. Of a distribution of actions, the likeliest counts as predicted.
        """
        numbers, device = batch.numbers.numpy(), self.policy.device
        targets, videos = self._windows.labels_at(numbers).to(device), batch.videos.to(device)
        if self.training and self._config.random_shift:
            videos = shift_windows(videos, self._config.random_shift)
        features = self.policy.features(videos, self._windows.past_at(numbers).to(device))
        logits = self.policy.head(features)
        likeliest = targets if targets.ndim == 1 else targets.argmax(dim=-1)
        if self.training and targets.ndim == 2:
            targets = self._mix_posterior(targets, logits.detach())
        loss = F.cross_entropy(logits, targets)
        if self._windows.num_latents:
            latents = self._windows.latents_at(numbers).to(device)
            loss = loss + self._config.auxiliary_weight * F.cross_entropy(self.latent_head(features), latents)
        if self._config.actions_ahead:
            loss = loss + self._config.ahead_weight * self._lose_ahead(features, numbers)
        return LossOutput(loss, {"agreement": (logits.argmax(dim=-1) == likeliest).float().mean()})

    def _lose_ahead(self, features: Tensor, numbers: np.ndarray) -> Tensor:
        """Return the mean cross-entropy () of the next actions after frames ``numbers`` (B,), from features (B, D)."""
        actions = self._windows.ahead_at(numbers, self._config.actions_ahead).flatten().to(features.device)  # (B N)
        logits = self.ahead_head(features).view(len(actions), -1)  # (B, N A) -> (B N, A)
        losses = F.cross_entropy(logits, actions, ignore_index=NO_LABEL, reduction="sum")
        return losses / (actions != NO_LABEL).sum().clamp(min=1)

    def _mix_posterior(self, decoded: Tensor, logits: Tensor) -> Tensor:
        """Return what to learn from decoded distributions (B, A), given the policy's logits (B, A)."""
        self.seen += 1
        if self.seen <= self._config.posterior_after * self._config.training.train_steps:
            return decoded
        lifts = self._windows.lifts(decoded)  # (B, A), zero for actions that are never decoded
        posterior = (logits.log_softmax(dim=-1) + lifts.log()).softmax(dim=-1)
        share = self._config.decoder_share
        return share * decoded + (1 - share) * posterior


def shift_windows(videos: Tensor, most: int) -> Tensor:
    """Shift each window (B, T, C, H, W) by its own random vector of up to ``most`` pixels; edges are repeated.

    All frames of a window are shifted alike, so that motion stays as it was (DrQ, arXiv 2004.13649).
    """
    height, width = videos.shape[-2:]
    padded = F.pad(videos.flatten(1, 2), (most,) * 4, mode="replicate")  # (B, T C, H + 2 most, W + 2 most)
    corners = torch.randint(2 * most + 1, (len(videos), 2)).tolist()
    cut = [each[:, top : top + height, left : left + width] for each, (top, left) in zip(padded, corners, strict=True)]
    return torch.stack(cut).view_as(videos)


def clone(  # noqa: PLR0913
    windows: Windows,
    config: CloningConfig,
    label_source: str,
    out: Path,
    minutes: float | None = None,
    progress: bool = True,
    among: np.ndarray | None = None,
    device: str = "cpu",
    unused: Collection[str] = (),
) -> LatentPolicy | None:
    """Train a policy and save it in ``out/policy``; a second call resumes an unfinished run.

    Args:
        windows: Windows of frames with their actions.
        config: Sizes of the policy and its training.
        label_source: Origin of the actions, saved with the policy: ``REAL``, or the digest by ``digest_labels``.
        out: Folder of the run.
        minutes: Time limit of this call in minutes.
        progress: Whether to show a progress bar.
        among: (M,) indices of the frames to learn from; all frames with an action by default.
        device: Device to train on and to return the policy on.
        unused: Fields of the config that make no difference to this clone; they may change later.

    Returns:
        The frozen policy, or ``None`` if time ran out before the last step.

    Raises:
        ValueError: If ``among`` is empty or names frames without an action, or ``out`` holds a policy of other labels
            or another config.
    """
    find_clone(config, label_source, out, unused=unused)
    _claim(config, out, unused)
    drawn_from = windows.targets if among is None else among
    if len(drawn_from) == 0 or not np.isin(drawn_from, windows.targets).all():
        raise ValueError(f"among must be one or more frames with an action, got {drawn_from!r}")
    training = config.training
    batches = functools.partial(windows.batches, {training.seed: drawn_from}, training.batch_size)
    phase = Phase(batches, training, out, minutes, progress)
    phase.seed_start()
    policy = LatentPolicy(config.policy, windows.num_actions, label_source)
    trainee = Cloning(policy, windows, config).to(device)
    if phase.run(trainee) < training.train_steps:
        return None
    save_policy(trainee.policy, out / "policy")
    return find_clone(config, label_source, out, device, unused)


def find_clone(
    config: CloningConfig, label_source: str, out: Path, device: str = "cpu", unused: Collection[str] = ()
) -> LatentPolicy | None:
    """Return the frozen policy that ``clone`` finished in ``out``, or ``None``.

    Raises:
        ValueError: If it was cloned from other labels, or with another config apart from its ``unused`` fields.
    """
    folder = out / "policy"
    if not (folder / "config.json").exists():
        return None
    policy = load_policy(folder)
    if policy.label_source != label_source:
        was = policy.label_source
        raise ValueError(f"policy {str(folder)!r} was cloned from labels of {was!r}, not of {label_source!r}")
    _claim(config, out, unused)
    return policy.to(device)


def _claim(config: CloningConfig, out: Path, unused: Collection[str]) -> None:
    """Save the config of the run in ``out`` if it is a new one; raise a ValueError if it has another config.

    Fields that make no difference to the clone are neither saved nor compared.
    """
    path, given = out / "cloning.json", _leave_out(unused, json.loads(json.dumps(to_dict(config))))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps(given, indent=1) + "\n")
    elif (stored := _leave_out(unused, json.loads(path.read_text()))) != given:
        raise ValueError(f"policy {str(out)!r} has another config, {stored}, not {given}")


def _leave_out(unused: Collection[str], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not ``unused``."""
    return {name: value for name, value in fields.items() if name not in unused}


@dataclass(frozen=True, kw_only=True)
class LatentCloning(Training):
    """Label videos with a frozen latent action model and clone a policy from the labels."""

    videos: Path
    """folder of demonstrations, of which only frames are read"""
    checkpoint: str = "coinrun"
    """shipped checkpoint or folder whose latent action model labels the videos"""
    policy: PolicyName = "compact"
    """policy network: ``compact`` for a few CPU cores, ``impala`` for a GPU, ``st-vivit`` as in the paper"""
    out: Path = Path("runs/latent-policy")
    """folder of labels, training run and policy to write"""
    train_steps: int | None = None
    """number of training batches; None for that of the policy's config"""

    def run(self) -> None:
        """Label the videos, clone a policy and save it; finished stages are not repeated."""
        world = copy.deepcopy(load_world(self.checkpoint, self.device, "float32"))
        config = POLICIES[self.policy]
        steps = config.training.train_steps if self.train_steps is None else self.train_steps
        config = replace(config, training=replace(config.training, train_steps=steps, seed=self.seed))
        dataset = ClipDataset(self.videos, clip_length=2)
        labels = label_dataset(world, dataset, self.out / "labels")
        footage = read_footage(dataset).upload(self.device)
        windows = Windows(footage, labels, world.config.num_latent_actions, config.policy.context_length)
        source, device = digest_labels(world), self.device
        policy = clone(windows, config, source, self.out, self.minutes, device=device, unused=UNUSED_FIELDS)
        print(f"saved {self.out / 'policy'}" if policy else f"time is up; run again to resume in {self.out}")


if __name__ == "__main__":
    run_command(LatentCloning)
