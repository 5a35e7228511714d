"""Make a checkpoint in the way the shipped one was made: record, train, name its actions, score it, write its card.

    python -m experiments.release.make --out runs/release                        # the preset's steps, on any machine
    python -m experiments.release.make --seconds 650 --first-phases 0.27 --device cuda      # by the clock, on a GPU
    python -m experiments.release.make --start coinrun --seconds 650 --device cuda          # go on with its dynamics
    python -m experiments.release.make --start coinrun --further.train-steps 1400   # by steps, and average the weights

CoinRun is recorded on training levels, half sticky-random play, a tenth random, two fifths a trained player's. Start
clips, names and scores come from validation levels; test levels are for the published card alone. Resumable: run it
again until it prints "done".
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro
from torch import nn

from experiments.lib.tables import quality
from experiments.lib.tables.markdown import write_table
from experiments.release.clocked import ClockedRun
from experiments.release.settings import ReleaseSettings
from experiments.release.start_clips import draw_release_clips
from genie_gym.bench.machine import describe_machine
from genie_gym.cli import EvaluateCommand
from genie_gym.configs import Preset
from genie_gym.data.clips import ClipDataset
from genie_gym.metrics.naming import propose_names
from genie_gym.models.loading import find_checkpoint, name_checkpoint, read_world, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips, train_preset
from genie_gym.training.world import train_dynamics

_NAMED_FRAMES = 16  # each action is held for so many frames to propose its name: a jump has to land
_FRAMES = 400_000  # of training levels, unless the options say otherwise


@dataclass(frozen=True, kw_only=True)
class Release(ReleaseSettings):
    """Record, train, name, score and pack a world."""

    def run(self) -> None:
        """Run the missing stages, and print whether another call has to resume."""
        preset, started = self.find_preset(), time.monotonic()
        if self.seconds is not None:
            run = ClockedRun(self, preset)
            preset = run.run()
            self._finish(preset, run.facts["frames"])
        elif self._train_by_steps(preset, started):
            self._finish(preset, self.frames or _FRAMES)
        else:
            print(f"time is over; run again to resume in {self.out}")

    def _train_by_steps(self, preset: Preset, started: float) -> bool:
        """Record and train for the preset's steps; return whether the checkpoint is finished."""
        folders = self.record(self.frames or _FRAMES)
        if (self.out / "checkpoint" / "config.json").exists():
            return True
        minutes = None if self.minutes is None else max(self.minutes - (time.monotonic() - started) / 60, 0.01)
        size = {"height": preset.world.height, "width": preset.world.width}
        dataset = ClipDataset(folders, clip_length=preset.world_training.clip_length, **size)
        if self.start is None:
            return train_preset(preset, dataset, self.out, minutes=minutes, device=self.device) is not None
        return self._train_further(read_world(find_checkpoint(self.start)), preset, dataset, minutes)

    def _train_further(
        self, start: GenieWorldModel, preset: Preset, dataset: ClipDataset, minutes: float | None
    ) -> bool:
        """Train a copy of a world's dynamics, and save its mean with ``start``; return whether it is finished."""
        config = preset.world_training
        dynamics = replace(start.config.dynamics, own_context=self.further.own_context)
        world = GenieWorldModel(replace(start.config, dynamics=dynamics), start.start_clips)
        world.load_state_dict(start.state_dict())
        batches = clips(dataset, config, self.device)
        phase = Phase(batches, config, self.out / "world", minutes)
        if train_dynamics(world.to(self.device), phase) < config.train_steps:
            return False
        average_weights(world.to("cpu").dynamics, start.dynamics, self.further.kept_share)
        save_world(world.eval(), self.out / "checkpoint")
        return True

    def _finish(self, preset: Preset, frames: int) -> None:
        """Pack in half precision, add start clips and names, score on validation levels, and write the card."""
        checkpoint, scores = self.out / "checkpoint", self.out / "evaluation.json"
        if not scores.exists():
            world = read_world(checkpoint)
            world.dynamics.half()  # halves the largest file
            world.start_clips = draw_release_clips(self.modes)
            save_world(world, checkpoint)
            world = load_world(checkpoint, self.device)
            if not world.config.action_names:
                names = propose_names(world, len(world.start_clips), _NAMED_FRAMES, 0, self.out / "actions.png")
                name_checkpoint(checkpoint, names)
            config = replace(self.evaluation, checkpoint=str(checkpoint), device=self.device, modes=self.modes)
            EvaluateCommand(evaluation=config, json=scores, picture=self.out / "evaluation.png").run()
        names, machine = load_world(checkpoint).config.action_names, describe_machine(torch.device(self.device))
        card = write_card(preset, names, frames, machine, json.loads(scores.read_text()))
        (checkpoint / "README.md").write_text(card)
        print(f"done: {checkpoint}, scores in {scores}")


@torch.no_grad()
def average_weights(model: nn.Module, other: nn.Module, share: float) -> None:
    """Mix the weights of another model of equal shape into a model's weights, with the given share, in place."""
    for weight, other_weight in zip(model.parameters(), other.parameters(), strict=True):
        weight.lerp_(other_weight.to(weight.dtype), share)


def write_card(
    preset: Preset, action_names: Sequence[str], frames: int, machine: dict[str, Any], scores: dict[str, Any]
) -> str:
    """Return the model card in Markdown: what the world learned from, for how long, and how good it is.

    The preset has the steps it was trained for, ``frames`` are those recorded for training, ``machine`` is the result
    of ``describe_machine``, and ``scores`` are those of ``genie-gym evaluate``.
    """
    trainings = (preset.tokenizer_training, preset.action_training, preset.world_training)
    phases = dict(zip(("tokenizer", "latent actions", "dynamics"), trainings, strict=True))
    rows = [["data", f"{frames:,} frames of Procgen CoinRun, training levels 0..9,999; no actions, no rewards"]]
    for name, training in phases.items():
        if training is not None:
            steps, batch_size, length = training.train_steps, training.batch_size, training.clip_length
            seen = steps * batch_size * length
            rows.append([name, f"{steps:,} steps of {batch_size} clips x {length} frames = {seen:,} frames"])
    rows += [
        ["actions", ", ".join(f"{number} {name}" for number, name in enumerate(action_names))],
        ["hardware", f"{machine['device']}, {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}"],
        ["commit", f"`{scores['commit']}`"],
    ]
    faults = [f"- {fault}" for fault in scores["faults"]] or ["- none of the evaluator's bars is missed"]
    about, tables = write_table(["", ""], rows), quality.write_card_tables(scores)
    return "\n\n".join(["# Model card", about, tables, "What falls short:", "\n".join(faults)]) + "\n"


if __name__ == "__main__":
    tyro.cli(Release).run()
