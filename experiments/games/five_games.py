"""One recipe for five games of different kinds, at equal budget: labels, held actions and roll-outs beside baselines.

    python -m experiments.games.five_games --preset full --game ninja

Without ``--game``, all of them. For each game, random play is recorded, a supervised model tells what labels could at
best tell of the true actions, and a small world is trained by one recipe, which knows nothing of the game: the same
player, sizes and steps. A game whose supervised model gains less than .15 over chance on its main axis counts as not
measurable, and no world is trained. Rows that are written stand; unfinished training goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from experiments.games.games import FIVE_GAMES, find_game, list_keys
from experiments.games.held_keys import SPRITE_SIZES, KeyPlay, explain_held, find_motion, play_keys
from experiments.games.label_scores import Reference, find_reference, score_game_labels, score_numbers_of_actions
from experiments.games.recipe import SIZES, build_recipe
from genie_gym.configs import MovingActionConfig
from genie_gym.data.frames import contact_sheet, to_uint8, write_image
from genie_gym.metrics.controllability import play_clips
from genie_gym.metrics.held_out import ClipPool, EvaluationClips
from genie_gym.metrics.image import pooled_psnr
from genie_gym.metrics.score import score_control
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.results.experiment import Row, TrainedExperiment
from genie_gym.serving import load_world
from genie_gym.training.run import draw_start_clips, train_preset

_SCORED_FRAME = 4
"""Frame t of roll-outs that is scored, as in the paper."""
_START_CLIPS = 8
"""Number of clips that ship with each world."""
_PRINTED = "game measurable axis_kept all_kept held_explained keys_explained t4_psnr t4_copy dpsnr minutes"
"""What is printed of a row."""


@dataclass(frozen=True, kw_only=True)
class FiveGames(TrainedExperiment):
    """Train a world of each game by one recipe, and score it."""

    name = "games"
    game: str | None = None
    """name of the only game of this run; None for all five"""

    @property
    def size(self) -> dict[str, int]:
        """Return the preset's numbers of frames, clips, starts and training steps."""
        return SIZES[self.preset]

    def run(self) -> None:
        """Train and score the missing rows, and write each at once."""
        names = FIVE_GAMES if self.game is None else (self.game,)
        cells = [{"game": name, "seed": self.seed} for name in names if find_game(name)]
        for row in self.finish_rows(cells, self.size, self.measure):
            Console().print({name: row.get(name) for name in _PRINTED.split()})

    def measure(self, cell: Row) -> Row:
        """Record, train and score one game, and return the rest of its row."""
        game, folder = find_game(cell["game"]), self.run_folder / f"{cell['game']}-{self.seed}"
        training = game.record_levels("training", self.size["frames"], self.seed, folder / "training")
        test = game.record_levels("test", self.size["scored_frames"], self.seed, folder / "test")
        clips = test.draw(self.size["clips"], self.seed)
        reference = find_reference(
            game, training, clips, self.size["ceiling_steps"], self.seed, folder / "ceiling.safetensors"
        )
        about = {"camera": game.camera, "axis": game.axis_words, "seen_by": game.seen_by, **reference.scores}
        if reference.gain < self.size["least_gain_percent"] / 100:
            return {**about, "measurable": False}
        world = self._train(training, folder)
        return {**about, "measurable": True, **self._score(cell["game"], world, training, clips, reference)}

    def _train(self, training: ClipPool, folder: Path) -> GenieWorldModel:
        """Return the world that is trained on a recording by the recipe, in eval mode."""
        starts = draw_start_clips(training.dataset, _START_CLIPS, self.seed)
        recipe = build_recipe(self.size, self.seed)
        checkpoint = train_preset(recipe, training.dataset, folder / "world", starts, progress=False)
        assert checkpoint is not None  # no time limit
        return load_world(checkpoint)

    def _score(
        self, name: str, world: GenieWorldModel, training: ClipPool, clips: EvaluationClips, reference: Reference
    ) -> Row:
        game, seed = find_game(name), self.seed
        part = world.config.latent_action_model
        assert isinstance(part, MovingActionConfig)
        mapped = training.draw(min(self.size["mapped_clips"], len(training.numbers)), seed)
        keys = list_keys(training.known_groups())
        play = play_keys(game, keys, "test", self.size["starts"], seed)
        motion = find_motion(game, keys, play, SPRITE_SIZES[self.preset], seed, self.run_folder / f"{name}-{seed}")
        held, played = explain_held(world, play, motion, seed)
        self._draw(name, keys, play, to_uint8(played))
        return {
            "found_box": part.agent_box,
            "found_border": part.border,
            **score_game_labels(game, world, mapped, clips, reference),
            "by_actions": score_numbers_of_actions(game, world, mapped, clips, reference),
            **held,
            **score_rollouts(world, clips, seed),
        }

    def _draw(self, name: str, keys: Sequence[int], play: KeyPlay, played: np.ndarray) -> None:
        """Draw keys and then latent actions, a row each, held from the first two starts; see ``contact_sheet``."""
        rows = np.concatenate([play.frames[:, :2], played[:, :2]])[:, :, ::2]
        titles = [f"key {key}" for key in keys] + [f"latent {action}" for action in range(len(played))]
        sheet = contact_sheet(rows.reshape(len(rows), -1, *rows.shape[3:]), titles)
        write_image(self.picture.with_name(f"{self.name}-{name}.png"), sheet)


def score_rollouts(world: GenieWorldModel, clips: EvaluationClips, seed: int) -> dict[str, Any]:
    """Score roll-outs from one frame, at t = 4, beside copying, and the tokenizer alone, all in dB.

    Returns:
        ``t4_psnr`` and ``t4_copy``, pooled PSNR of the roll-out and of the first frame; ``dpsnr``, the mean delta PSNR,
        with its 95 % ``dpsnr_interval``; ``tokenizer_psnr``, of the scored frame as the tokenizer rebuilds it.
    """
    videos = clips.videos[:, : _SCORED_FRAME + 1]
    rollouts = play_clips(world, videos, seed, kinds=("inferred", "random"))
    real = rollouts.real[:, _SCORED_FRAME]
    rebuilt = [world.tokenizer.decode(world.tokenizer.encode(part)) for part in real[:, None].split(32)]
    control = score_control(rollouts, _SCORED_FRAME, seed)
    return {
        "t4_psnr": pooled_psnr(rollouts.inferred[:, _SCORED_FRAME], real),
        "t4_copy": pooled_psnr(rollouts.real[:, 0], real),
        "dpsnr": control["delta_psnr"],
        "dpsnr_interval": control["interval"],
        "tokenizer_psnr": pooled_psnr(torch.cat(rebuilt)[:, 0], real),
    }


if __name__ == "__main__":
    tyro.cli(FiveGames).run()
