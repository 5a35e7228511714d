"""Give a finished world a new latent action model, and keep its tokenizer and dynamics.

    python -m experiments.release.actions --out runs/actions
    python -m experiments.release.make --start runs/actions/checkpoint --out runs/more

The dynamics' embedding of a new action is a blend of the embeddings of old ones, so the dynamics has to be trained
further, as in the second line. Resumable.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from experiments.release.labels import SCORED_CLIPS, label_in_chunks, score_halves
from experiments.release.settings import record_modes
from genie_gym.configs import Mode
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.metrics.held_out import read_clips
from genie_gym.models.latent_action_model import require_learned
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.serving import load_world
from genie_gym.training.actions import begin_from, renew_actions, train_actions, translate_actions
from genie_gym.training.agent_box import settle_agent_box
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips


@dataclass(frozen=True, kw_only=True)
class NewActions:
    """Record clips, train a latent action model, and save the world with it."""

    start: str = "coinrun"
    """name of a shipped checkpoint, or a checkpoint's folder, to start from"""
    preset: str = "coinrun"
    """name of the preset whose latent action model is trained"""
    out: Path = Path("runs/actions")
    """folder of recordings, training run and checkpoint"""
    modes: tuple[Mode, ...] = ("easy", "hard")
    """Procgen distribution modes, recorded in equal parts"""
    begins_from_old: bool = True
    """whether training starts from the old model's weights where shapes agree; codes are new in any case"""
    frames: int = 240_000
    """number of frames of training levels, all modes together"""
    train_steps: int | None = None
    """number of training steps; None for the preset's number"""
    minutes: float | None = None
    """minutes after which training stops; a second call resumes"""
    seed: int = 1
    """seed of the recording"""
    device: str = "cpu"
    """device to train on"""

    def run(self) -> None:
        """Record and train what is missing, then save the world.

        Raises:
            ValueError: If the preset does not train latent actions alone or does not fit the world.
        """
        if self.preset not in PRESETS or (training := PRESETS[self.preset].action_training) is None:
            raise ValueError(f"preset must be one that trains latent actions alone, got {self.preset!r}")
        steps = training.train_steps if self.train_steps is None else self.train_steps
        training = replace(training, train_steps=steps)
        old, part = load_world(self.start, precision="float32"), require_learned(PRESETS[self.preset].world)
        untrained = renew_actions(old, part)  # a preset that does not fit is refused before anything is recorded
        frames = self.frames // len(self.modes)
        config = RecordConfig(frames=frames, frames_per_shard=min(frames, 20_000), seed=self.seed)
        folders = record_modes(self.out, "training", self.modes, config)
        dataset = ClipDataset(list(folders.values()), clip_length=training.clip_length)
        settled = settle_agent_box(untrained.config, dataset)
        torch.manual_seed(training.seed)
        world = renew_actions(old, require_learned(settled))
        if self.begins_from_old:
            begin_from(world.latent_action_model, old.latent_action_model)
        phase = Phase(clips(dataset, training, self.device), training, self.out / "actions", self.minutes)
        if train_actions(world.latent_action_model.to(self.device), phase) < steps:
            print(f"time is over; run again to resume in {self.out}")
            return
        self._finish(old, world.to("cpu").eval(), folders)

    def _finish(self, old: GenieWorldModel, world: GenieWorldModel, folders: Mapping[Mode, Path]) -> None:
        """Score both models' labels, fit the dynamics' action embeddings to the new actions, and save the world."""
        labels, scores = [], {}
        for mode, folder in folders.items():
            dataset = ClipDataset(folder, clip_length=old.config.context_length)
            play = read_clips(dataset, np.random.default_rng(0).permutation(len(dataset))[:SCORED_CLIPS])
            by_model = {name: label_in_chunks(each, play) for name, each in (("old", old), ("new", world))}
            labels.append(by_model)
            actions = world.config.num_latent_actions
            scores[mode] = {name: score_halves(each, play, actions) for name, each in by_model.items()}
        translate_actions(world, *(torch.cat([each[name] for each in labels]) for name in ("old", "new")))
        save_world(world, self.out / "checkpoint")
        print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    tyro.cli(NewActions).run()
