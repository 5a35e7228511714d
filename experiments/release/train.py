"""Make a checkpoint: record, train all phases, score, write its card. Resumable; call it again until it says done.

    python -m experiments.release.train --out runs/release
    python -m experiments.release.train --out runs/release --budget 25 --device cuda --minutes 9

With ``--budget`` sizes and steps follow from the minutes and what this machine measures (see ``budget.py``); without,
the preset says them. Every stage goes on where the last call stopped, so ``--minutes`` may be under the length of a
lease.
"""

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro

from experiments.release.budget import Plan, make_plan, read_plan, save_plan
from experiments.release.card import write_card
from experiments.release.mix import Mode, record_mix
from genie_gym.bench.machine import describe_machine
from genie_gym.cli import EvaluateCommand
from genie_gym.configs import Preset, RecordConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.naming import propose_names
from genie_gym.models.loading import name_checkpoint
from genie_gym.presets import PRESETS
from genie_gym.serving import load_world
from genie_gym.training.run import draw_start_frames, train_preset

START_FRAMES, NAMED_FRAMES = 32, 6
"""Shipped with the world; for how many each action is held to be named."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Record, train, score."""

    out: Path = Path("runs/release")
    """Folder of recordings, runs and checkpoint."""
    preset: str = "coinrun"
    """A preset's name."""
    budget: float | None = None
    """Minutes for everything, from which sizes and steps follow; the preset's own where not given."""
    player: str = "expert"
    """Spec of a trained player for two fifths of the games; all play is random where empty."""
    modes: tuple[Mode, ...] = ("easy", "hard")
    """Procgen's distribution modes, in equal parts."""
    frames: int | None = None
    """Frames of training levels, of all modes; 400,000 or the plan's where not given."""
    seed: int = 1
    """Of the recording."""
    minutes: float | None = None
    """Stop after these, in whatever phase of training."""
    device: str = "cpu"
    """Where to train."""
    evaluation: tyro.conf.Suppress[EvaluateConfig] = field(default_factory=lambda: EvaluateConfig(levels="validation"))
    """How the finished world is scored."""
    measure_seconds: float = 3.0
    """For each kind of step that a plan asks about."""

    def run(self) -> None:
        """Do what is missing."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {self.preset!r}")
        started = time.monotonic()
        plan = self._plan()
        preset = PRESETS[self.preset] if plan is None else plan.apply(PRESETS[self.preset])
        planned = 400_000 if plan is None else plan.frames
        frames = planned if self.frames is None else self.frames
        training = self._record("train", "training", frames)
        validation = self._record("validation", "validation", max(frames // 20, 2_000))
        checkpoint = self.out / "checkpoint"
        if not (checkpoint / "config.json").exists():
            left = None if self.minutes is None else max(self.minutes - (time.monotonic() - started) / 60, 0.01)
            if self._train(preset, training, validation, left) is None:
                print(f"time is over; call again to go on in {self.out}")
                return
        self._finish(preset, checkpoint, frames)

    def _plan(self) -> Plan | None:
        """The plan that the run began with, or a new one."""
        if self.budget is None:
            return None
        path = self.out / "plan.json"
        if path.exists():
            plan = read_plan(path)
            if plan.minutes != self.budget:
                raise ValueError(f"budget must be {plan.minutes:g}, as {path} says, got {self.budget:g}")
        else:
            plan = make_plan(PRESETS[self.preset], self.budget, self.device, self.measure_seconds)
            save_plan(plan, path)
        print(plan.tell())
        return plan

    def _record(self, name: str, levels: str, frames: int) -> tuple[Path, ...]:
        """A folder for each mode."""
        each = frames // len(self.modes)
        configs = {
            mode: RecordConfig(mode=mode, frames=each, frames_per_shard=50_000, seed=self.seed) for mode in self.modes
        }
        return tuple(
            record_mix(self.out / f"{name}-{mode}", levels, config, self.player) for mode, config in configs.items()
        )

    def _train(
        self, preset: Preset, training: tuple[Path, ...], validation: tuple[Path, ...], minutes: float | None
    ) -> Path | None:
        size = {"height": preset.world.height, "width": preset.world.width}
        dataset = ClipDataset(training, clip_length=preset.world_training.clip_length, **size)
        starts = ClipDataset(validation, clip_length=1, **size)
        frames = draw_start_frames(starts, START_FRAMES, preset.tokenizer_training.seed)
        return train_preset(preset, dataset, self.out, frames, minutes, self.device)

    def _finish(self, preset: Preset, checkpoint: Path, frames: int) -> None:
        """Name the actions, score on validation levels, write the card."""
        scores = self.out / "evaluation.json"
        world = load_world(checkpoint, self.device)
        names = world.config.action_names
        if not names:
            names = propose_names(world, START_FRAMES, NAMED_FRAMES, 0, self.out / "actions.png")
            name_checkpoint(checkpoint, names)
        if not scores.exists():
            config = replace(self.evaluation, checkpoint=str(checkpoint), device=self.device, modes=self.modes)
            EvaluateCommand(evaluation=config, json=scores, picture=self.out / "evaluation.png").run()
        machine = describe_machine(torch.device(self.device))
        card = write_card(preset, names, frames, machine, json.loads(scores.read_text()))
        (checkpoint / "README.md").write_text(card)
        print(f"done: {checkpoint}, scores in {scores}")


if __name__ == "__main__":
    tyro.cli(Release).run()
