"""What a machine can make of some minutes: sizes and steps, from step times measured on it, and what to expect.

A plan splits the minutes into recording, the phases of training, and the evaluation. Of some shapes for the dynamics it
takes the one whose loss a law fitted to figure 9's runs says to be lowest after as many steps as the minutes hold.
What to expect of tokenizer and latent actions follows the ladder's runs by their compute, in the same way.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.rivals import count_step
from genie_gym.bench.machine import matmul_tflops
from genie_gym.bench.timing import measure
from genie_gym.config_io import vary
from genie_gym.configs import Preset, TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import VectorQuantizer
from genie_gym.results.experiment import Row
from genie_gym.results.files import ROOT
from genie_gym.training.actions import ActionsTrainee
from genie_gym.training.loop import Trainee
from genie_gym.training.optim import build_optimizer
from genie_gym.training.tokenizer import TokenizerTrainee
from genie_gym.training.world import DynamicsTrainee, WorldTrainee

RESULTS = ROOT / "experiments" / "results"
SHAPES = {"4 x 128": (4, 128, 4), "6 x 192": (6, 192, 6), "6 x 256": (6, 256, 8), "6 x 384": (6, 384, 12)}
"""Layers, width, heads of 32 of a dynamics; the feed-forward is twice as wide. The largest ships in 60 MB."""
SHARES = {"recording": 0.08, "tokenizer": 0.3, "actions": 0.07, "world": 0.45, "evaluation": 0.1}
"""Of the minutes."""
MOST_FRAMES, FRAMES_A_MINUTE = 2_000_000, 100_000
"""Recorded, at most and by two cores in a minute."""
MATMUL = 2048
"""Rows of the products that the device's rate is measured by."""
GPU_BATCH = 8
"""Times the preset's batch."""
FIGURE_FRAMES = 16
"""Of a clip of figure 9."""
POWERS = np.arange(0.05, 1.55, 0.05)
"""Exponents of the law that are tried."""
LOSS = "cross-entropy of hidden tokens, nats"
CURVES = {
    "tokenizer's PSNR, dB": ("tokenizer", "tokenizer training", "psnr"),
    "left / still / right kept": ("actions", "player training", "direction_kept"),
}
"""What the ladder foretells, with its phase, rung and score."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    minutes: float
    """In all."""
    device: str
    frames: int
    """To record."""
    shape: str
    """Of the dynamics, a key of ``SHAPES``."""
    steps: dict[str, int]
    """Of each phase."""
    seconds: dict[str, float]
    """Of a step of each phase, as measured."""
    shares: dict[str, float]
    """Of the device's matrix rate, in the phase's precision, that such a step reaches."""
    expected: dict[str, float]
    """Scores by what they are called."""
    beyond: list[str]
    """Scores that are told from more compute than any run had that the law was fitted to."""

    def apply(self, preset: Preset) -> Preset:
        """The preset with the plan's sizes and steps."""
        phases: dict[str, Any] = {
            f"{name}_training": _phase(preset, name, self.device, steps) for name, steps in self.steps.items()
        }
        return replace(shape_dynamics(preset, self.shape), **phases)

    def tell(self) -> str:
        """In lines for people."""
        lines = [f"{self.minutes:g} minutes on {self.device}: {self.frames:,} frames, a dynamics of {self.shape}"]
        lines += [
            f"  {name}: {steps:,} steps of {self.seconds[name]:.3f} s, {steps * self.seconds[name] / 60:.1f} minutes, "
            f"at {self.shares[name]:.0%} of the device's rate"
            for name, steps in self.steps.items()
        ]
        lines += [
            f"  expect {name} {value:.2f}" + (" (beyond what was measured)" if name in self.beyond else "")
            for name, value in self.expected.items()
        ]
        return "\n".join(lines)


class DataLaw(NamedTuple):
    """Loss = a + b parameters^-p + c frames^-q (the form of Hoffmann et al. 2022, "Chinchilla", eq. 2)."""

    floor: float
    size: float
    size_power: float
    data: float
    data_power: float
    frames: float
    """The most that any run saw."""

    def loss(self, parameters: float, frames: float) -> float:
        """Nats of a hidden token."""
        return float(self.floor + self.size * parameters**-self.size_power + self.data * frames**-self.data_power)


def make_plan(preset: Preset, minutes: float, device: str, seconds: float = 3.0) -> Plan:
    """Measure, fit and choose.

    Args:
        preset: Whose phases are run.
        minutes: For all, recording and evaluation too.
        device: Where to train; measured here.
        seconds: To measure each kind of step.

    Raises:
        ValueError: If the minutes are too few for a step of each phase.
    """
    if minutes <= 0:
        raise ValueError(f"budget must be positive, got {minutes}")
    given = {name: 60 * minutes * share for name, share in _share_out(preset).items()}
    law = fit_data_law(json.loads((RESULTS / "figure9_scaling.json").read_text())["rows"])
    times = {name: time_step(preset, name, device, seconds) for name in given if name != "world"}
    worlds = {shape: time_step(shape_dynamics(preset, shape), "world", device, seconds) for shape in SHAPES}
    losses = {shape: law.loss(step.parameters, step.frames_in(given["world"])) for shape, step in worlds.items()}
    shape = min(losses, key=losses.__getitem__)
    times["world"] = worlds[shape]
    steps = {name: int(given[name] / times[name].seconds) for name in given}
    if min(steps.values()) < 1:
        raise ValueError(f"budget must hold a step of each phase, got {minutes} minutes and {times}")
    expected = {LOSS: losses[shape]}
    beyond = [LOSS] if times["world"].frames_in(given["world"]) > law.frames else []
    for name, (phase, rung, score) in CURVES.items():
        curve = read_curve(rung, score)
        if len(curve) > 1 and phase in steps:
            spent = steps[phase] * times[phase].tflop
            expected[name] = predict(curve, spent)
            beyond += [name] * (spent > max(at for at, _ in curve))
    recorded = int(min(MOST_FRAMES, FRAMES_A_MINUTE * minutes * SHARES["recording"]))
    shares = {name: time.tflop / time.seconds / _rate(preset, name, device, seconds) for name, time in times.items()}
    seconds_of = {name: step.seconds for name, step in times.items()}
    return Plan(minutes, device, recorded, shape, steps, seconds_of, shares, expected, beyond)


def _share_out(preset: Preset) -> dict[str, float]:
    """Shares of the minutes by phase of training; latent actions that have no phase of their own leave theirs."""
    shares = {name: SHARES[name] for name in ("tokenizer", "actions", "world")}
    if preset.action_training is None:
        shares["world"] += shares.pop("actions")
    return shares


class Step(NamedTuple):
    """One step of a phase, measured."""

    seconds: float
    tflop: float
    frames: int
    """Of its batch."""
    parameters: int
    """Trained."""

    def frames_in(self, seconds: float) -> float:
        """Seen in that time, one at least."""
        return max(1.0, seconds / self.seconds * self.frames)


def time_step(preset: Preset, phase: str, device: str, seconds: float) -> Step:
    """Time steps of a phase on noise, forward, backward and AdamW."""
    torch.manual_seed(0)
    world, config = GenieWorldModel(preset.world).to(device), _phase(preset, phase, device, 1)
    world.set_precision(config.precision)
    size = (config.batch_size, config.clip_length, 3, preset.world.height, preset.world.width)
    batch = Batch(torch.rand(size, device=device), torch.arange(config.batch_size))
    trainee = _enter(world, preset, phase, batch)
    optimizer = build_optimizer(trainee, config.optimizer)  # type: ignore[arg-type]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        trainee.loss(batch).loss.backward()
        optimizer.step()

    trainee.train()  # type: ignore[attr-defined]
    step()
    flop = count_step(trainee, batch)
    parameters = sum(weight.numel() for weight in trainee.parameters())  # type: ignore[attr-defined]
    spent = measure(step, seconds, torch.device(device)).seconds
    return Step(spent, flop / 1e12, config.batch_size * config.clip_length, parameters)


def shape_dynamics(preset: Preset, shape: str) -> Preset:
    """The preset with a dynamics of one of ``SHAPES``."""
    layers, width, heads = SHAPES[shape]
    sizes = {"layers": layers, "width": width, "heads": heads, "head_dim": 32, "feed_forward_width": 2 * width}
    return vary(preset, {f"world.dynamics.transformer.{name}": value for name, value in sizes.items()})


def fit_data_law(rows: Sequence[Row]) -> DataLaw:
    """Least squares over the second half of every curve of figure 9; a, b, c are not negative."""
    points = [
        (row["parameters"], point["step"] * row["batch_size"] * FIGURE_FRAMES, point["loss"])
        for row in rows
        for point in row["curve"][(len(row["curve"]) + 1) // 2 :]
    ]
    sizes, frames, losses = np.array(points, dtype=np.float64).T
    best: tuple[float, DataLaw] | None = None
    for p, q in itertools.product(POWERS, POWERS):
        design = np.stack([np.ones(len(losses)), (sizes / 1e6) ** -p, (frames / 1e4) ** -q], axis=1)
        for kept in ([0, 1, 2], [1, 2], [0, 2]):
            weights = np.zeros(3)
            weights[kept] = np.linalg.lstsq(design[:, kept], losses, rcond=None)[0]
            error = float(((design @ weights - losses) ** 2).sum())
            if (weights >= 0).all() and (best is None or error < best[0]):
                a, b, c = weights
                best = error, DataLaw(a, b * 1e6**p, p, c * 1e4**q, q, float(frames.max()))
    assert best is not None, "c alone always fits with a positive sign"
    return best[1]


def read_curve(rung: str, score: str) -> list[tuple[float, float]]:
    """TFLOP and score of the ladder's runs of a rung: the largest group of those alike but for compute."""
    path = RESULTS / "release_ladder.json"
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in (row for row in rows if row["rung"] == rung):
        kind = json.dumps(row["overrides"], sort_keys=True)
        groups.setdefault(kind, []).append((row["train_steps"] * row["step_gflop"] / 1e3, row[score]))
    return max(groups.values(), key=len, default=[])


def predict(curve: Sequence[tuple[float, float]], tflop: float) -> float:
    """The score at a compute by a straight line in its logarithm."""
    spent, scores = np.array(curve).T
    slope, offset = np.polyfit(np.log(spent), scores, 1)
    return float(offset + slope * np.log(tflop))


def save_plan(plan: Plan, path: Path) -> None:
    """As JSON, so that a run which goes on keeps its plan."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(plan), indent=1) + "\n")


def read_plan(path: Path) -> Plan:
    """What ``save_plan`` wrote."""
    values: dict[str, Any] = json.loads(path.read_text())
    return Plan(**values)


def _phase(preset: Preset, name: str, device: str, steps: int) -> TrainConfig:
    """A phase's config on the device: on a GPU a larger batch, bfloat16 and compiled."""
    config: TrainConfig = getattr(preset, "action_training" if name == "actions" else f"{name}_training")
    if torch.device(device).type == "cuda":
        config = replace(config, batch_size=GPU_BATCH * config.batch_size, precision="bfloat16", compile=True)
    return replace(config, train_steps=steps)


def _rate(preset: Preset, phase: str, device: str, seconds: float) -> float:
    """TFLOP/s of large products in the phase's precision."""
    precision = getattr(torch, _phase(preset, phase, device, 1).precision)
    return matmul_tflops(precision, MATMUL, seconds, torch.device(device))


def _enter(world: GenieWorldModel, preset: Preset, phase: str, batch: Batch) -> Trainee:
    if phase == "tokenizer":
        return TokenizerTrainee(world.tokenizer)
    if phase == "actions":
        return ActionsTrainee(world.latent_action_model)
    world.tokenizer.eval().requires_grad_(False)
    if isinstance(world.tokenizer.quantizer, VectorQuantizer):
        world.dynamics.initialise(world.tokenizer.quantizer.codebook)
    if preset.action_training is None:
        return WorldTrainee(world)
    world.latent_action_model.eval().requires_grad_(False)
    return DynamicsTrainee(world)
