"""Draw every latent action held: the README's animation, and a contact sheet for each of several starts.

    python -m experiments.release.figure_actions --preset full --levels test

``actions.gif`` is what ``genie-gym demo`` writes. The sheets start on the ground in the middle of a level and have one
row for each latent action. An action should look alike on all of them, and the last frames should still show a level
of the game.
"""

import shutil
from dataclasses import dataclass
from typing import Any, Literal

import tyro

import genie_gym
from genie_gym.cli import DemoCommand
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.metrics.motion import explain_motion, play_each_action, track_player
from genie_gym.metrics.starts import draw_starts
from genie_gym.results.experiment import WorldExperiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"starts": 2, "frames": 2, "modes": ["hard"]},
    "full": {"starts": 6, "frames": 16, "modes": ["easy", "hard"]},
}
"""Number of starts of each mode, and of frames that an action is held on the sheets."""


@dataclass(frozen=True, kw_only=True)
class ActionsFigure(WorldExperiment):
    """Hold every latent action, draw the animation and the sheets, and measure how much of the motion it explains."""

    name = "figure_actions"
    levels: Literal["test", "validation"] = "validation"
    """levels of the sheets; ``test`` is for a finished world only"""

    def run(self) -> None:
        """Play the demo and from starts on the ground, draw, and write the scores."""
        size, world = _SIZES[self.preset], genie_gym.load(self.checkpoint, self.device)
        names = world.config.action_names or [f"action {each}" for each in range(world.config.num_latent_actions)]
        DemoCommand(checkpoint=self.checkpoint, device=self.device, out=self.run_folder).run()
        shutil.copy(self.run_folder / "demo.gif", self.picture.with_name("actions.gif"))
        rows = []
        for mode in size["modes"]:
            starts = to_float(draw_starts(mode, self.levels, size["starts"], self.seed).frames)
            played = play_each_action(world, starts, size["frames"], self.seed)
            shares = explain_motion(track_player(played)[:, :, -1])
            rows.append({"mode": mode, **{name: float(share) for name, share in shares.items()}})
            for start in range(len(starts)):
                sheet = contact_sheet(to_uint8(played[:, start]), names)
                write_image(self.picture.with_name(f"{self.name}-{mode}-{start}.png"), sheet)
        self.write({"checkpoint": self.checkpoint, "levels": self.levels, **size, "names": list(names), "rows": rows})


if __name__ == "__main__":
    tyro.cli(ActionsFigure).run()
