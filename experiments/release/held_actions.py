"""Hold each latent action for thousands of steps in each precision, and record how large features become.

    python -m experiments.release.held_actions --preset full

The kernels play, and raise a FloatingPointError if logits are not finite. Now and then PyTorch plays the same step from
a copy of the state, in the same precision, and the features of each kind of layer are measured.
"""

import functools
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from torch import Tensor, nn

from genie_gym.data.frames import to_float
from genie_gym.models.loading import find_checkpoint, read_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.layers import GridConvolution, LayerNorm, Linear
from genie_gym.results.experiment import Row, TrainedExperiment
from genie_gym.serving import load_world, prepare
from genie_gym.system import KERNEL_FLAGS, processor_flags

_SIZES = {"smoke": 30, "full": 10_000}
"""Number of steps by preset."""
_EVERY = 100
"""Steps from one measurement to the next; the first ten steps are all measured."""


@dataclass(frozen=True, kw_only=True)
class HeldActions(TrainedExperiment):
    """Hold each latent action of a world for thousands of steps."""

    name = "held_actions"
    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a checkpoint's folder"""
    precisions: tuple[str, ...] = ("bfloat16", "float32")
    """precisions to play in"""

    def run(self) -> None:
        """Play each action in each precision; print and write a row for each."""
        env_steps, flags = _SIZES[self.preset], processor_flags()
        settings = {
            "checkpoint": self.checkpoint,
            "env_steps": env_steps,
            "processor_flags": [flag for flag in KERNEL_FLAGS if flag in flags],
        }
        actions = range(read_world(find_checkpoint(self.checkpoint)).config.num_latent_actions)
        cells = [{"precision": precision, "action": action} for precision in self.precisions for action in actions]
        work = functools.partial(hold_action, checkpoint=self.checkpoint, env_steps=env_steps, seed=self.seed)
        for row in self.finish_rows(cells, settings, work):
            Console().print(row)


def hold_action(cell: Row, checkpoint: str, env_steps: int, seed: int) -> Row:
    """Hold the latent action ``cell["action"]`` in ``cell["precision"]``, from the start clip of the same number.

    Returns:
        ``greatest``: for the steps up to 10, up to 100, and so on, the greatest magnitude by kind of layer.

    Raises:
        FloatingPointError: If logits are not finite.
    """
    world, number = load_world(checkpoint, precision=cell["precision"]), cell["action"]
    plain = prepare(read_world(find_checkpoint(checkpoint)), cell["precision"], use_kernels=False)
    magnitudes = watch(plain)
    start, action = to_float(world.start_clips[number % len(world.start_clips)]), torch.tensor([number])
    state, _ = world.reset(start[None], [seed + number])
    greatest: dict[int, dict[str, float]] = {}
    for step in range(1, env_steps + 1):
        if step <= 10 or step % _EVERY == 0:
            plain.step(world.fork(state), action)
            greatest[next(10**n for n in range(1, 20) if step <= 10**n)] = dict(magnitudes)
        state, _ = world.step(state, action)
    return {"greatest": greatest}


def watch(world: GenieWorldModel) -> dict[str, float]:
    """Return a dict that is kept up to date while PyTorch plays: the greatest magnitude so far, by kind of layer.

    ``residual`` is the input of the norms between the layers.
    """
    magnitudes: dict[str, float] = {}

    def note(kind: str, features: Tensor) -> None:
        magnitudes[kind] = max(magnitudes.get(kind, 0.0), float(features.abs().max()))

    def note_output(layer: nn.Module, inputs: tuple[Tensor], output: Tensor, kind: str) -> None:
        note(kind, output)

    def note_input(norm: nn.Module, inputs: tuple[Tensor], kind: str) -> None:
        note(kind, inputs[0])

    for part, model in (("dynamics", world.dynamics), ("decoder", world.tokenizer.decoder)):
        for name, layer in model.named_modules():
            if isinstance(layer, Linear | GridConvolution):
                kind = f"{part} {name.rpartition('.')[2]}"
                layer.register_forward_hook(functools.partial(note_output, kind=kind))
            elif isinstance(layer, LayerNorm) and not name.endswith(("query_norm", "key_norm")):
                layer.register_forward_pre_hook(functools.partial(note_input, kind=f"{part} residual"))
    logits_of = world.dynamics.logits

    def note_logits(features: Tensor) -> Tensor:
        logits = logits_of(features)
        note("logits", logits)
        return logits

    world.dynamics.logits = note_logits  # type: ignore[method-assign]
    return magnitudes


if __name__ == "__main__":
    tyro.cli(HeldActions).run()
