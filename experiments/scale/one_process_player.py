"""Train for ``experiments.scale.one_process`` in one checkout; it uses only what older commits have, too.

    PYTHONPATH=CHECKOUT python one_process_player.py SETTINGS

Questions and answers are lines of JSON on standard input and output.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import genie_gym
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.loop import Phase
from genie_gym.training.tokenizer import train_tokenizer
from genie_gym.training.world import train_world


class Trainer:
    """Trains each phase of a preset for some steps on clips of noise."""

    def __init__(self, preset: str, steps: int, clips: int, frames: int) -> None:
        self._world = GenieWorldModel(PRESETS[preset].world)
        self._steps, self._preset = steps, PRESETS[preset]
        self._batch = Batch(torch.rand(clips, frames, 3, 64, 64), torch.arange(clips))

    def train(self, kind: str) -> float:
        """Return the processor time in seconds of a run of the phase, from an empty folder to a saved state."""
        clips, frames = self._batch.videos.shape[:2]
        slow = replace(self._preset.world_training.optimizer, learning_rate=1e-9, final_learning_rate=1e-9)
        config = replace(
            self._preset.world_training,
            train_steps=self._steps,
            batch_size=clips,
            clip_length=frames,
            precision="float32",
            log_every=10**6,
            optimizer=slow,
        )
        with tempfile.TemporaryDirectory() as folder:
            phase = Phase(self._draw, config, Path(folder) / kind, progress=False)
            began = time.process_time()
            if kind == "tokenizer":
                train_tokenizer(self._world.tokenizer.requires_grad_(True), phase)
            elif kind == "actions":
                phase.run(ActionsTrainee(self._world.latent_action_model))
            else:
                train_world(self._world, phase)
            return time.process_time() - began

    def _draw(self, first: int, number: int) -> Iterator[Batch]:
        for _ in range(number):
            yield self._batch


def main() -> None:
    """Answer questions until standard input ends."""
    settings = json.loads(sys.argv[1])
    torch.manual_seed(settings.pop("seed"))
    trainer = Trainer(**settings)
    for line in sys.stdin:
        question: dict[str, Any] = json.loads(line)
        answer = {"cpu_s": trainer.train(question["kind"])} if question else {"package": str(genie_gym.__file__)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
