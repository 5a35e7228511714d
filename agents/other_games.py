"""Latent action models that learn from games other than CoinRun, in several ways of equal cost (Genie, sec. 3.3)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.experiment import AgentExperiment
from agents.game import ProcgenGame
from genie_gym.checks import require
from genie_gym.config_io import vary
from genie_gym.configs import LatentActionConfig, Mode, Preset
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.models.latent_action_model import require_learned
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.serving import load_world
from genie_gym.training.actions import train_actions
from genie_gym.training.agent_box import settle_agent_box
from genie_gym.training.loop import Batches, Phase
from genie_gym.training.run import clips
from genie_gym.training.step import step_seed

MODES: tuple[Mode, ...] = ("easy", "hard")
_SIZES: dict[str, dict[str, int]] = {
    "smoke": {"frames": 2_560, "train_steps": 2, "clips": 2},
    "full": {"frames": 100_000, "train_steps": 2_000, "clips": 16},
}
"""Sizes by preset, equal for all attempts: ``frames`` over all games and modes, batches and clips of each."""
_WARMUP_SHARE, _CODES_START = 0.06, 0.5
"""Shares of the training after which the learning rate has risen, and after which codes start."""
_OPTIMIZER = {"kind": "muon-conv", "learning_rate": 3e-3}
"""Optimiser of all attempts, with which a decoder learns in fewer steps."""
_COLOUR_MIX, _COLOUR_OFFSET = 0.5, 0.1
"""Standard deviations of the entries of random colour matrices beside the identity, and of what they add."""


class Attempt(NamedTuple):
    """One way to learn latent actions for CoinRun without CoinRun."""

    games: tuple[str, ...]
    """Procgen's names of the games to learn from."""
    changes: dict[str, Any]
    """New values by dotted path of the preset ``coinrun``."""
    changes_colours: bool = False
    """Whether the colours of every training clip are changed at random, those of all its frames alike."""


ATTEMPTS = {
    "five games": Attempt(("ninja", "jumper", "climber", "leaper", "caveflyer"), {}),
    "ninja and caveflyer": Attempt(("ninja", "caveflyer"), {}),
    "ninja": Attempt(("ninja",), {}),
    "ninja, changed colours": Attempt(("ninja",), {}, changes_colours=True),
    "ninja, clusters": Attempt(("ninja",), {"world.latent_action_model.merging": "latents"}),
    "ninja, even use": Attempt(("ninja",), {"world.latent_action_model.quantizer.diversity_weight": 0.2}),
    "ninja, codes not merged": Attempt(("ninja",), {"world.latent_action_model.merged_actions": 0}),
}
"""Attempts by the name in the table. All have as many frames, batches and clips."""


class OtherGames(NamedTuple):
    """The training of a latent action model by one attempt; everything is made under ``folder`` and kept there."""

    attempt: str
    """Name of the attempt."""
    size: str
    """Preset of sizes: ``smoke`` or ``full``."""
    folder: Path
    """Folder of recordings and trained models."""
    seed: int
    """Seed of recordings and training."""
    device: str = "cpu"
    """Torch device to train on."""
    workers: int = 1
    """Number of recording processes."""

    @classmethod
    def of(cls, experiment: AgentExperiment, attempt: str) -> "OtherGames":
        """Return the training by an attempt with an experiment's options; all experiments share its results."""
        folder = experiment.work / experiment.preset / "other_games"
        return cls(attempt, experiment.preset, folder, experiment.seed, experiment.device, experiment.workers)

    @property
    def checkpoint(self) -> Path:
        """Return the folder of the trained model's checkpoint."""
        return self.folder / f"{self.attempt.replace(', ', '-').replace(' ', '-')}-{self.seed}"

    def make(self, checkpoint: str) -> Path:
        """Train the model unless it is there, and return the folder of the checkpoint of a world that labels with it.

        The dynamics of that world is untrained.

        Args:
            checkpoint: Name or folder of the world from which the rest comes.

        Raises:
            ValueError: If the attempt is unknown, or learns from CoinRun.
        """
        find_attempt(self.attempt)
        if not (self.checkpoint / "config.json").exists():
            save_world(self._train(load_world(checkpoint, precision="float32")), self.checkpoint)
        return self.checkpoint

    def _train(self, world: GenieWorldModel) -> GenieWorldModel:
        """Return a world whose latent action model has learned by the attempt, on random play of its games."""
        attempt, preset = find_attempt(self.attempt), self._plan()
        training = preset.action_training
        assert training is not None
        dataset = ClipDataset(self._record(attempt.games), clip_length=training.clip_length)
        settled = settle_agent_box(preset.world, dataset)
        renewed = _replace_actions(world, require_learned(settled))
        batches = clips(dataset, training, self.device)
        if attempt.changes_colours:
            batches = change_colours(batches, self.seed)
        run = self.checkpoint.with_name(f"{self.checkpoint.name}-training")
        train_actions(renewed.latent_action_model.to(self.device), Phase(batches, training, run))
        return renewed.cpu().eval()

    def _plan(self) -> Preset:
        """Return the preset ``coinrun`` with the sizes and the attempt's changes."""
        size = _SIZES[self.size]
        steps = size["train_steps"]
        sizes = {
            "world.latent_action_model.quantizer.start_after": round(_CODES_START * steps),
            "action_training.train_steps": steps,
            "action_training.batch_size": size["clips"],
            "action_training.seed": self.seed,
            "action_training.optimizer.warmup_steps": round(_WARMUP_SHARE * steps),
            **{f"action_training.optimizer.{name}": value for name, value in _OPTIMIZER.items()},
        }
        return vary(PRESETS["coinrun"], sizes | find_attempt(self.attempt).changes)

    def _record(self, names: tuple[str, ...]) -> list[Path]:
        games = [ProcgenGame(name=name, mode=mode) for name in names for mode in MODES]
        frames = _SIZES[self.size]["frames"] // len(games)
        folders = [self.folder / f"{game.name}-{game.mode}-{frames}" for game in games]
        for game, folder in zip(games, folders, strict=True):
            game.record("training", "sticky", folder, frames, self.seed, num_envs=16, workers=self.workers)
        return folders


def _replace_actions(world: GenieWorldModel, part: LatentActionConfig) -> GenieWorldModel:
    """Return a world with the tokenizer of another and a new latent action model, and with untrained dynamics."""
    replaced = GenieWorldModel(replace(world.config, latent_action_model=part, action_names=()))
    replaced.tokenizer.load_state_dict(world.tokenizer.state_dict())
    return replaced


def find_attempt(name: str) -> Attempt:
    """Return the attempt of a name; ``ValueError`` if there is none, or if it learns from CoinRun."""
    require(name in ATTEMPTS, "attempt", name, f"one of {tuple(ATTEMPTS)}")
    require("coinrun" not in ATTEMPTS[name].games, "attempt", name, "one that learns from games other than coinrun")
    return ATTEMPTS[name]


def change_colours(batches: Batches, seed: int) -> Batches:
    """Return a source of batches in which every clip has its colours multiplied by a random matrix, and shifted."""

    def draw(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(batches(first, number)):
            generator = torch.Generator().manual_seed(step_seed(seed, first + index))
            yield batch._replace(videos=_recolour(batch.videos, generator))

    return draw


def _recolour(videos: Tensor, generator: torch.Generator) -> Tensor:
    """Return videos (B, T, 3, H, W) in [0, 1] with other colours, alike in all frames of a clip."""
    matrices = torch.eye(3) + _COLOUR_MIX * torch.randn(len(videos), 3, 3, generator=generator)
    offsets = 0.5 + _COLOUR_OFFSET * torch.randn(len(videos), 1, 3, 1, 1, generator=generator)
    mixed = torch.einsum("bij,btjhw->btihw", matrices.to(videos), videos - 0.5)
    return (mixed + offsets.to(videos)).clamp(0, 1)
