"""Draw every latent action held: the README's animation, and a contact sheet for each of several starts.

    python -m experiments.release.figure_actions --preset full --levels test

``actions.gif`` is what ``genie-gym demo`` writes. The sheets show actions held from starts on the ground in the middle
of a level, time to the right, a row for each action: all of them with their names, and beside it left, right, jump and
stay without names and in a drawn order, which ``rows`` of the results tell. A viewer should be able to name these four
at sight, an action should look alike on all sheets, and the last frames should still show a level of the game.
"""

import shutil
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro

import genie_gym
from genie_gym.checks import require
from genie_gym.cli import DemoCommand
from genie_gym.data.frames import contact_sheet, to_float, to_uint8, write_image
from genie_gym.metrics.motion import play_each_action
from genie_gym.metrics.starts import draw_starts
from genie_gym.results.experiment import WorldExperiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"starts": 2, "frames": 2, "modes": ["hard"]},
    "full": {"starts": 6, "frames": 16, "modes": ["easy", "hard"]},
}
"""Number of starts of each mode, and of frames that an action is held on the sheets."""
_TILES, _SCALE = 8, 2  # frames of a row without names, after the start, and their enlargement


@dataclass(frozen=True, kw_only=True)
class ActionsFigure(WorldExperiment):
    """Hold every latent action, and draw the animation and the sheets."""

    name = "figure_actions"
    levels: Literal["test", "validation"] = "validation"
    """levels of the sheets; ``test`` is for a finished world only"""
    unnamed: tuple[str, ...] = ("left", "right", "jump", "stay")
    """names of the latent actions on the sheets without names"""

    def run(self) -> None:
        """Play the demo and from starts on the ground, draw, and write the order of the rows.

        Raises:
            ValueError: If the world has no latent action of one of the names ``unnamed``.
        """
        size, world = _SIZES[self.preset], genie_gym.load(self.checkpoint, self.device)
        names = world.config.action_names or tuple(map(str, range(world.config.num_latent_actions)))
        require(set(self.unnamed) <= set(names), "unnamed", self.unnamed, f"among the world's actions, {names}")
        DemoCommand(checkpoint=self.checkpoint, device=self.device, out=self.run_folder).run()
        shutil.copy(self.run_folder / "demo.gif", self.picture.with_name("actions.gif"))
        rows, generator = [], np.random.default_rng(self.seed)
        for mode in size["modes"]:
            starts = draw_starts(mode, self.levels, size["starts"], self.seed)
            held = to_uint8(play_each_action(world, to_float(starts.frames), size["frames"], self.seed))
            for start, level in enumerate(starts.level_seeds.tolist()):
                place = self.picture.with_name(f"{self.name}-{mode}-{start}.png")
                write_image(place, contact_sheet(held[:, start], names))
                order = generator.permutation(self.unnamed).tolist()
                shown = held[[names.index(name) for name in order], start, :: max(1, size["frames"] // _TILES)]
                sheet = contact_sheet(shown).repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
                write_image(place.with_stem(f"{place.stem}-unnamed"), sheet)
                rows.append({"mode": mode, "start": start, "level": level, "order": order})
        self.write({"checkpoint": self.checkpoint, "levels": self.levels, **size, "names": list(names), "rows": rows})


if __name__ == "__main__":
    tyro.cli(ActionsFigure).run()
