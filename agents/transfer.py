"""The benchmark with a latent action model that has never seen CoinRun (Genie, sec. 3.3).

    python -m agents.transfer --preset full

It learns from videos of other platformers of Procgen, played at random; then it is frozen and labels CoinRun's.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from agents.benchmark import Benchmark
from genie_gym.configs import RecordConfig
from genie_gym.data.clips import ClipDataset
from genie_gym.data.record import record
from genie_gym.metrics.held_out import restrict
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import parse_shares
from genie_gym.presets import find_preset
from genie_gym.serving import load_world
from genie_gym.training.actions import renew_actions, train_actions
from genie_gym.training.loop import Phase
from genie_gym.training.run import clips

GAMES = ("ninja", "jumper", "climber", "leaper", "caveflyer")
MODES: tuple[Literal["easy", "hard"], ...] = ("easy", "hard")
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 512, "train_steps": 2},
    "full": {"frames": 40_000, "train_steps": 1000},
}
"""``frames`` of each game and mode, ``train_steps`` of the latent action model."""


@dataclass(frozen=True, kw_only=True)
class Transfer(Benchmark):
    """Train a latent action model on other games, then run the benchmark with it."""

    recipe: str = "coinrun"
    """The preset whose latent action model is trained, and how."""
    games: tuple[str, ...] = GAMES
    """Whose videos it learns from."""

    @property
    def name(self) -> str:
        return "figure15_transfer"

    def run(self) -> None:
        """Do what is missing.

        Raises:
            ValueError: If ``games`` are none, or hold CoinRun, or the recipe trains no latent actions alone.
        """
        if not self.games or "coinrun" in self.games:
            raise ValueError(f"games must be some of Procgen's other than coinrun, got {self.games}")
        folder = self.run_folder / "-".join((self.recipe, *self.games))
        if not (folder / "config.json").exists():
            save_world(self._train(folder), folder)
        Benchmark.run(replace(self, checkpoint=str(folder)))

    def _train(self, folder: Path) -> GenieWorldModel:
        """The checkpoint's world with the latent action model of other games; training lies beside ``folder``."""
        preset, size = find_preset(self.recipe), SIZES[self.preset]
        if preset.action_training is None:
            raise ValueError(f"recipe must be a preset that trains latent actions alone, got {self.recipe!r}")
        training = replace(preset.action_training, train_steps=size["train_steps"], seed=self.seed)
        dataset = ClipDataset(self._record(size["frames"]), clip_length=training.clip_length)
        world = renew_actions(load_world(self.checkpoint, precision="float32"), preset.world.latent_action_model)
        batches, run = clips(dataset, training, self.device), folder.with_name(f"{folder.name}-training")
        train_actions(world.latent_action_model.to(self.device), Phase(batches, training, run))
        return world.cpu().eval()

    def _record(self, frames: int) -> list[Path]:
        folders = []
        for game in self.games:
            for mode in MODES:
                folder = self.run_folder / f"{game}-{mode}"
                config = RecordConfig(game=game, mode=mode, frames=frames, seed=self.seed, num_envs=16)
                record(restrict(config, "training"), parse_shares(["sticky"]), folder, workers=self.workers)
                folders.append(folder)
        return folders


if __name__ == "__main__":
    tyro.cli(Transfer).run()
