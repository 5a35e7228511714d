"""Loss by training step in float32 and in bfloat16, for each kind of model that is trained.

    python -m experiments.ablations.precision --preset full

Both precisions start from the same weights and see the same batches, masks and noise. Tokenizer, latent action model
and dynamics are those of the preset `study`, the clone is the policy `compact`; the latent actions of dynamics and
clone are the shipped world's. Held-out losses are computed in float32, so that they compare weights alone.
"""

import functools
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from torch import Tensor

import genie_gym
from agents.cloning import Cloning
from agents.config import POLICIES
from agents.labelling import label_dataset
from agents.policy import LatentPolicy
from agents.windows import Windows, read_footage
from experiments.lib import variants
from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.models.base import LossOutput
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.results.experiment import Row, VariantExperiment
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.loop import Batches, Phase, Trainee
from genie_gym.training.run import clips
from genie_gym.training.tokenizer import TokenizerTrainee
from genie_gym.training.world import DynamicsTrainee

_SIZES = {
    "smoke": {"frames": 2_048, "train_steps": 4, "clone_steps": 4, "batch_size": 2, "seeds": 1},
    "full": {"frames": 10_240, "train_steps": 100, "clone_steps": 300, "batch_size": 4, "seeds": 2},
}
"""Sizes by preset; a clone's batches are its own config's."""
_KINDS = ("tokenizer", "latent actions", "dynamics", "clone")
_PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
_STEPS = {"clone": "clone_steps"}
"""Name of the number of steps by kind, where it is a number of its own."""
_CLIP_LENGTH = 4
"""Frames per clip in training, so that a step is short."""
_HELD_OUT = 8
"""Number of batches of the held-out loss."""
_POINTS = 15
"""Number of points of a curve, each the mean of as many steps."""


class Watched(Trainee):
    """A trainee whose losses are kept with the weights, so that a resumed run has the whole curve."""

    def __init__(self, trainee: Trainee, steps: int) -> None:
        super().__init__()
        self.trainee, self.steps_begun = trainee, list[float]()
        self.losses: Tensor
        self.register_buffer("losses", torch.full((steps,), torch.nan))

    def set_precision(self, precision: str) -> None:
        """Set the precision of the trainee."""
        self.trainee.set_precision(precision)

    def loss(self, batch: Batch) -> LossOutput:
        """Return the trainee's loss, and keep it and the processor time at which the step began."""
        self.steps_begun.append(time.process_time())
        output = self.trainee.loss(batch)
        self.losses[int(self.losses.isfinite().sum())] = output.loss.detach()
        return output


@dataclass(frozen=True, kw_only=True)
class PrecisionAblation(VariantExperiment):
    """Train each kind of model in both precisions, and compare their losses at equal steps."""

    name = "ablation_precision"

    def run(self) -> None:
        """Train the missing runs, write the results and draw the figure."""
        size = _SIZES[self.preset]
        cells: list[Row] = [{"kind": kind, "precision": precision} for kind in _KINDS for precision in _PRECISIONS]
        cells = self.repeat_over_seeds(cells, size["seeds"])
        settings = {"shipped": variants.digest_shipped(), **size}
        draw_curves(self.finish_rows(cells, settings, self._train), self.picture)

    def _train(self, cell: Row) -> Row:
        size, seed = _SIZES[self.preset], cell["seed"]
        data = {
            levels: variants.record_variant_clips(self.work / self.preset, levels, frames, self.seed).cut(_CLIP_LENGTH)
            for levels, frames in (("training", size["frames"]), ("validation", 2_048))
        }
        shipped = genie_gym.load("coinrun", precision="float32")
        build = _prepare_clone if cell["kind"] == "clone" else functools.partial(_prepare_part, cell["kind"])
        sides = {levels: build(shipped, dataset, data["training"], size, seed) for levels, dataset in data.items()}
        trainee, config, batches = sides["training"]
        config = replace(
            config, train_steps=size[_STEPS.get(cell["kind"], "train_steps")], precision=cell["precision"], seed=seed
        )
        watched = Watched(trainee, config.train_steps)
        Phase(batches, config, self.run_folder / f"{cell['kind']}-{cell['precision']}-{seed}").run(watched)
        seconds = np.diff(watched.steps_begun).tolist()
        judge, _, held_out = sides["validation"]
        judge.load_state_dict(trainee.state_dict())
        return {
            "curve": [float(part.mean()) for part in watched.losses.tensor_split(_POINTS)],
            "loss": float(watched.losses[-(config.train_steps // 5 or 1) :].mean()),
            "held_out": _hold_out(judge, held_out),
            "cpu_ms": 1e3 * statistics.median(seconds) if seconds else None,
        }


@torch.no_grad()
def _hold_out(trainee: Trainee, batches: Batches) -> float:
    """Return the mean loss of held-out batches in float32."""
    trainee.eval()
    trainee.set_precision("float32")
    torch.manual_seed(0)
    return statistics.mean(float(trainee.loss(batch).loss) for batch in batches(0, _HELD_OUT))


def _prepare_part(
    kind: str, shipped: GenieWorldModel, dataset: ClipDataset, training: ClipDataset, size: dict[str, int], seed: int
) -> tuple[Trainee, TrainConfig, Batches]:
    """Return a part of the world ``study`` as a trainee, its config, and batches of the dataset."""
    torch.manual_seed(seed)
    preset = PRESETS["study"]
    world = GenieWorldModel(preset.world).eval()
    config = preset.tokenizer_training if kind == "tokenizer" else preset.world_training
    config = replace(config, batch_size=size["batch_size"], clip_length=_CLIP_LENGTH, seed=seed)
    world.tokenizer.initialise(torch.cat([batch.videos for batch in clips(training, config)(0, 16)]))
    world.latent_action_model, own = shipped.latent_action_model, world.latent_action_model
    world.tokenizer.requires_grad_(kind == "tokenizer")
    trainees: dict[str, Trainee] = {
        "tokenizer": TokenizerTrainee(world.tokenizer),
        "latent actions": ActionsTrainee(own),
        "dynamics": DynamicsTrainee(world),
    }
    return trainees[kind], config, clips(dataset, config)


def _prepare_clone(
    shipped: GenieWorldModel, dataset: ClipDataset, training: ClipDataset, size: dict[str, int], seed: int
) -> tuple[Trainee, TrainConfig, Batches]:
    """Return an untrained policy as a trainee, its config, and batches of windows of the dataset."""
    config, actions = POLICIES["compact"], shipped.config.num_latent_actions
    windows = Windows(read_footage(dataset), label_dataset(shipped, dataset), actions, config.policy.context_length)
    torch.manual_seed(seed)
    trainee = Cloning(LatentPolicy(config.policy, actions), windows, config)
    batches = functools.partial(windows.batches, {seed: windows.targets}, config.training.batch_size)
    return trainee, config.training, batches


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the loss by step, one panel for each kind of model and one line for each run."""
    figure, axes = plt.subplots(1, len(_KINDS), figsize=(3.2 * len(_KINDS), 3))
    for axis, kind in zip(axes, _KINDS, strict=True):
        for row in (row for row in rows if row["kind"] == kind):
            is_low = row["precision"] == "bfloat16"
            label = row["precision"] if row["seed"] == rows[0]["seed"] else None
            axis.plot(row["curve"], "--" if is_low else "-", color="C1" if is_low else "C0", label=label)
        axis.set(title=kind, xlabel=f"training, parts of {_POINTS}", ylabel="loss", yscale="log")
    axes[0].legend()
    variants.save_figure(figure, path)


if __name__ == "__main__":
    tyro.cli(PrecisionAblation).run()
