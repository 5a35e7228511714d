"""The benchmark with a latent action model that has never seen CoinRun (Genie, sec. 3.3).

    python -m agents.transfer --preset full

The model learns from random play of other Procgen games; then it is frozen and labels CoinRun's videos.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.benchmark import Benchmark
from agents.game import ProcgenGame
from genie_gym.configs import Mode
from genie_gym.data.clips import ClipDataset
from genie_gym.failures import run_command
from genie_gym.models.latent_action_model import require_learned
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import find_preset
from genie_gym.serving import load_world
from genie_gym.training.actions import renew_actions, train_actions
from genie_gym.training.agent_box import settle_agent_box
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips

PLATFORMERS = ("ninja", "jumper", "climber", "leaper", "caveflyer")
_MODES: tuple[Mode, ...] = ("easy", "hard")
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 512, "train_steps": 2},
    "full": {"frames": 40_000, "train_steps": 1000},
}
"""Sizes by preset: ``frames`` of each game and mode, ``train_steps`` of the latent action model."""


@dataclass(frozen=True, kw_only=True)
class Transfer(Benchmark):
    """Train a latent action model on other games, then run the benchmark with it."""

    name = "figure15_transfer"
    recipe: str = "coinrun"
    """preset that gives the latent action model's config and training"""
    games: tuple[str, ...] = PLATFORMERS
    """Procgen games to learn from, CoinRun excluded"""

    def run(self) -> None:
        """Train the latent action model if it is missing, then run the benchmark.

        Raises:
            ValueError: If ``games`` is empty or includes CoinRun, or the recipe does not train latent actions alone.
        """
        if not self.games or "coinrun" in self.games:
            raise ValueError(f"games must be one or more of Procgen's other than coinrun, got {self.games}")
        folder = self.run_folder / "-".join((self.recipe, *self.games))
        if not (folder / "config.json").exists():
            with self.costs.measure("latent actions"):
                save_world(self._train(folder), folder)
        Benchmark.run(replace(self, checkpoint=str(folder)))

    def _train(self, folder: Path) -> GenieWorldModel:
        """Return the checkpoint's world with a latent action model trained on the other games."""
        preset, size = find_preset(self.recipe), _SIZES[self.preset]
        if preset.action_training is None:
            raise ValueError(f"recipe must be a preset that trains latent actions alone, got {self.recipe!r}")
        training = replace(preset.action_training, train_steps=size["train_steps"], seed=self.seed)
        dataset = ClipDataset(self._record(size["frames"]), clip_length=training.clip_length)
        settled = settle_agent_box(preset.world, dataset)
        world = renew_actions(load_world(self.checkpoint, precision="float32"), require_learned(settled))
        batches, run = clips(dataset, training, self.device), folder.with_name(f"{folder.name}-training")
        train_actions(world.latent_action_model.to(self.device), Phase(batches, training, run))
        return world.cpu().eval()

    def _record(self, frames: int) -> list[Path]:
        games = [ProcgenGame(name=name, mode=mode) for name in self.games for mode in _MODES]
        folders = [self.run_folder / f"{game.name}-{game.mode}" for game in games]
        for game, folder in zip(games, folders, strict=True):
            game.record("training", "sticky", folder, frames, self.seed, num_envs=16, workers=self.workers)
        return folders


if __name__ == "__main__":
    run_command(Transfer)
