"""Train a finished world's dynamics on clips longer than its context, and save the world anew. Resumable.

    python -m experiments.release.lengthen --data recordings/coinrun --out runs/lengthened

Trained on clips as long as the context, the dynamics never meets what it plays with beyond that: memories of frames
that had a whole context behind them. On longer clips it does. Tokenizer and latent action model stay as they are.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from torch import nn

from genie_gym.config_io import vary
from genie_gym.configs import OptimizerConfig, TrainConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.models.loading import find_checkpoint, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips
from genie_gym.training.world import train_dynamics


@dataclass(frozen=True, kw_only=True)
class Lengthening:
    """Train, save."""

    data: tuple[Path, ...]
    """Folders of recordings of training levels."""
    out: Path = Path("runs/lengthened")
    """Folder of the run; the world goes to its ``checkpoint``."""
    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    clip_length: int = 32
    """Frames a clip."""
    train_steps: int = 1000
    """Batches."""
    batch_size: int = 8
    """Clips a batch."""
    learning_rate: float = 5e-4
    """Peak."""
    schedule: Literal["constant", "cosine", "wsd"] = "wsd"
    """To 2e-5 over the last fifth (``wsd``), over all steps (``cosine``), or not at all, where another call goes on."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Of the dynamics."""
    action_conditioning: Literal["additive", "token", "film"] | None = None
    """Another than the checkpoint's: weights that it lacks start at zero."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the features."""
    minutes: float | None = None
    """Stop after these; call again to go on."""
    device: str = "cpu"
    """Where to train."""
    seed: int = 0
    """Of batches and masks."""

    def run(self) -> None:
        """Train to the last step or the last minute."""
        optimizer = OptimizerConfig(
            kind=self.optimizer,
            learning_rate=self.learning_rate,
            final_learning_rate=2e-5,
            schedule=self.schedule,
            warmup_steps=min(50, self.train_steps // 10),
            betas=(0.9, 0.95),
        )
        config = TrainConfig(
            train_steps=self.train_steps,
            batch_size=self.batch_size,
            clip_length=self.clip_length,
            optimizer=optimizer,
            precision=self.precision,
            seed=self.seed,
            checkpoint_every=50,
            picture_every=0,
        )
        world = copy.deepcopy(load_world(self.checkpoint, self.device, "float32"))  # what is loaded is shared
        if self.action_conditioning is not None:
            world = recondition(world, self.action_conditioning)
        dataset = ClipDataset(self.data, clip_length=self.clip_length)
        done = train_dynamics(world, Phase(clips(dataset, config, self.device), config, self.out, self.minutes))
        if done < self.train_steps:
            print(f"{done} of {self.train_steps} steps done: call again to go on")
            return
        card = find_checkpoint(self.checkpoint) / "README.md"
        folder = save_world(world.eval(), self.out / "checkpoint", card.read_text() if card.exists() else None)
        print(f"saved {folder}: its card is still that of {self.checkpoint}")


def recondition(world: GenieWorldModel, action_conditioning: str) -> GenieWorldModel:
    """The same world, its dynamics conditioned otherwise."""
    config = vary(world.config, {"dynamics.action_conditioning": action_conditioning})
    changed = GenieWorldModel(config, world.start_frames)
    for name in changed.load_state_dict(world.state_dict(), strict=False).missing_keys:
        nn.init.zeros_(changed.get_parameter(name))
    return changed.to(world.device)


if __name__ == "__main__":
    tyro.cli(Lengthening).run()
