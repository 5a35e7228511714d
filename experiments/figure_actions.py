"""Contact sheets to look at: every latent action held for 16 frames from starts of levels the world has not seen.

    python -m experiments.figure_actions --preset full

A sheet for each start, a row for each action, named as the checkpoint names it: the same action should look the same
on all sheets, and the last frame still be a level of the game.
"""

from dataclasses import dataclass
from typing import Any, Literal

import tyro

import genie_gym
from genie_gym.data.frames import contact_sheet, to_uint8, write_image
from genie_gym.metrics.held_out import join_clips, record_clips_by_player
from genie_gym.metrics.motion import play_each_action, score_consistency
from genie_gym.results.experiment import Experiment

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"starts": 2, "frames": 2, "modes": ["hard"]},
    "full": {"starts": 6, "frames": 16, "modes": ["easy", "hard"]},
}
"""Starts of each mode, frames that an action is held."""


@dataclass(frozen=True, kw_only=True)
class ActionsFigure(Experiment):
    """Hold, draw, and measure how much alike an action moves."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    levels: Literal["test", "validation"] = "validation"
    """Whose levels; ``test`` for a finished world, once."""

    @property
    def name(self) -> str:
        return "figure_actions"

    def run(self) -> None:
        """Record, play, draw, write."""
        size, world = SIZES[self.preset], genie_gym.load(self.checkpoint, self.device)
        names = world.config.action_names or [f"action {each}" for each in range(world.config.num_latent_actions)]
        rows = []
        for mode in size["modes"]:
            starts = join_clips(record_clips_by_player("expert", self.levels, mode, size["starts"], self.seed)).videos[
                :, :1
            ]
            played = play_each_action(world, starts, size["frames"], self.seed)
            rows.append({"mode": mode, **score_consistency(played)})
            for start in range(len(starts)):
                sheet = contact_sheet(to_uint8(played[:, start]), names)
                write_image(self.picture.with_name(f"{self.name}-{mode}-{start}.png"), sheet)
        self.write({"checkpoint": self.checkpoint, "levels": self.levels, **size, "names": list(names), "rows": rows})


if __name__ == "__main__":
    tyro.cli(ActionsFigure).run()
